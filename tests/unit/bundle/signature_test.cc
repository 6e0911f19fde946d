// Nothing of a manifest counts before a trusted key's signature of exactly its bytes was seen.
#include "bundle/signature.h"

#include <cstdlib>
#include <functional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "bundle_fixture.h"

namespace kveil::bundle {
namespace {

using evidence::SigningKey;
using ::testing::HasSubstr;
using ::testing::Not;

class SignatureTest : public BundleTest {};

TEST_F(SignatureTest, ManifestIsReadAsItWasSigned) {
  SignAs(7);
  const absl::StatusOr<Manifest> manifest = ReadSigned(folder_, trusted_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->version, 7);
  EXPECT_EQ(manifest->created, "2026-11-29T20:04:48Z");
  EXPECT_EQ(manifest->files, Of(7).files);
}

// The command that docs/signed-policies.md shows.
TEST_F(SignatureTest, OpensslVerifiesIt) {
  SignAs(7);
  const std::string verify = "cd '" + folder_ +
                             "' && base64 -d policies.manifest.sig > ../signature && openssl pkeyutl -verify -pubin "
                             "-inkey ../key.pub -rawin -in policies.manifest -sigfile ../signature > ../out 2>&1";
  EXPECT_EQ(std::system(verify.c_str()), 0);
  Write(kManifestName, Read(kManifestName) + " ");
  EXPECT_NE(std::system(verify.c_str()), 0);
}

// The private key that `openssl genpkey -algorithm ed25519` makes will do as well.
TEST_F(SignatureTest, OpensslsKeysSign) {
  const std::string make = "cd '" + root_ +
                           "' && (umask 077 && openssl genpkey -algorithm ed25519 -out own.key) && "
                           "openssl pkey -in own.key -pubout -out own.pub";
  ASSERT_EQ(std::system(make.c_str()), 0);
  const absl::StatusOr<SigningKey> own = SigningKey::Read(root_ + "/own.key");
  ASSERT_TRUE(own.ok()) << own.status();
  ASSERT_TRUE(Sign(folder_, Of(1), *own).ok());
  EXPECT_THAT(Refusal(), HasSubstr("is no signature of policies.manifest by any of 1 trusted key(s)"));
  trusted_.push_back(root_ + "/own.pub");
  EXPECT_EQ(Refusal(), "") << "a second key is trusted as the first is";
}

// Half of it would have agents refuse what they had.
TEST_F(SignatureTest, SigningThatFailsLeavesWhatWasThere) {
  const std::string inTheWay = folder_ + "/" + kSignatureName + ".new/in the way";
  std::filesystem::create_directories(inTheWay);
  EXPECT_THAT(std::string(Sign(folder_, Of(7), key_).message()), HasSubstr("policies.manifest.sig.new"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/" + kManifestName));
  std::filesystem::remove_all(folder_ + "/" + kSignatureName + ".new");
  SignAs(7);
  std::filesystem::create_directories(inTheWay);
  EXPECT_FALSE(Sign(folder_, Of(8), key_).ok());
  const absl::StatusOr<Manifest> manifest = ReadSigned(folder_, trusted_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->version, 7);
}

// Each does something to a folder that was in order, and is refused with these words.
TEST_F(SignatureTest, RefusesEveryAttack) {
  const SigningKey stranger = NewKey();
  const auto resign = [&](const std::string& manifest, const SigningKey& key) {
    Write(kManifestName, manifest);
    Write(kSignatureName, absl::Base64Escape(key.Sign(manifest)) + "\n");
  };
  const auto remove = [&](const std::string& name) { std::filesystem::remove(folder_ + "/" + name); };
  struct Attack {
    const char* name;
    std::function<void()> act;
    const char* refusal;
  };
  const Attack attacks[] = {
      {"no manifest", [&] { remove(kManifestName); }, "policies.manifest: there is none, and only policies that"},
      {"no signature", [&] { remove(kSignatureName); }, "policies.manifest.sig: there is none, and only policies that"},
      {"another version", [&] { Write(kManifestName, TextOf(Of(8))); }, "is no signature of policies.manifest"},
      {"a byte more", [&] { Write(kManifestName, Read(kManifestName) + "\n"); }, "is no signature of"},
      {"a byte less", [&] { Write(kManifestName, Read(kManifestName).substr(0, Read(kManifestName).size() - 1)); },
       "is no signature of"},
      {"nothing in it", [&] { Write(kManifestName, ""); }, "is no signature of"},
      {"no JSON, unsigned", [&] { Write(kManifestName, "{"); }, "is no signature of"},  // and not: a syntax error
      {"a stranger's signature", [&] { resign(TextOf(Of(7)), stranger); }, "is no signature of"},
      {"another manifest's signature",
       [&] {
         const std::string before = Read(kManifestName);
         resign(TextOf(Of(6)), key_);
         Write(kManifestName, before);
       },
       "is no signature of"},
      {"an empty signature", [&] { Write(kSignatureName, ""); }, "is no Ed25519 signature in base64"},
      {"a short signature",
       [&] { Write(kSignatureName, absl::Base64Escape(key_.Sign(Read(kManifestName)).substr(0, 63))); },
       "is no Ed25519 signature in base64"},
      {"a long signature", [&] { Write(kSignatureName, absl::Base64Escape(key_.Sign(Read(kManifestName)) + "x")); },
       "is no Ed25519 signature in base64"},
      {"a signature in two lines", [&] { Write(kSignatureName, Read(kSignatureName).insert(76, "\n")); },
       "is no Ed25519 signature in base64"},
      {"a signature with other padding",
       [&] {
         Write(kSignatureName, absl::StrReplaceAll(Read(kSignatureName), {{"==", ".."}}));
       },
       "is no Ed25519 signature in base64"},
      {"a signature with two ends", [&] { Write(kSignatureName, Read(kSignatureName) + "\n"); },
       "is no Ed25519 signature in base64"},
      {"a binary signature", [&] { Write(kSignatureName, key_.Sign(Read(kManifestName))); },
       "is no Ed25519 signature in base64"},
      {"a huge signature", [&] { Write(kSignatureName, std::string(kLongestManifest + 1, 'A')); },
       "policies.manifest.sig: expected at most 1 MiB"},
      {"a huge manifest", [&] { resign(std::string(kLongestManifest + 1, ' '), key_); },
       "policies.manifest: expected at most 1 MiB"},
      {"a folder for a manifest",
       [&] {
         remove(kManifestName);
         std::filesystem::create_directory(folder_ + "/" + kManifestName);
       },
       "policies.manifest: expected a regular file"},
      {"a signed receipt", [&] { resign(R"({"kind": "erasure", "number": 7})", key_); }, "policies.manifest: "},
  };
  for (const Attack& attack : attacks) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    SignAs(7);
    ASSERT_EQ(Refusal(), "") << attack.name;
    attack.act();
    EXPECT_THAT(Refusal(), HasSubstr(attack.refusal)) << attack.name;
    EXPECT_THAT(Refusal(), Not(HasSubstr("\n"))) << attack.name;
  }
}

TEST_F(SignatureTest, RefusesKeysThatCannotBeUsed) {
  SignAs(7);
  const auto refusal = [&](std::vector<std::string> keys) {
    return std::string(ReadSigned(folder_, keys).status().message());
  };
  ASSERT_TRUE(key_.Write(root_ + "/private.pem").ok());
  const std::string rsa = root_ + "/rsa.pub";
  ASSERT_EQ(
      std::system(
          ("openssl genpkey -quiet -algorithm rsa 2> /dev/null | openssl pkey -pubout -out '" + rsa + "'").c_str()),
      0);
  EXPECT_THAT(refusal({}), HasSubstr("there is no trusted key"));
  EXPECT_THAT(refusal({root_ + "/none.pub"}), HasSubstr("the trusted key " + root_ + "/none.pub: cannot read"));
  EXPECT_THAT(refusal({WriteTo(root_ + "/bad.pub", "no key")}), HasSubstr("bad.pub: no public Ed25519 key in PEM"));
  EXPECT_THAT(refusal({root_ + "/private.pem"}), HasSubstr("private.pem: no public Ed25519 key in PEM"));
  EXPECT_THAT(refusal({rsa}), HasSubstr("rsa.pub: no public Ed25519 key in PEM"));
  EXPECT_THAT(refusal({trusted_[0], root_ + "/none.pub"}), HasSubstr("none.pub")) << "each key has to be there";
  const std::string two = WriteTo(root_ + "/two.pub", NewKey().PublicPem() + key_.PublicPem());
  EXPECT_THAT(refusal({two}), HasSubstr("two.pub: holds more than one key"));
}

// Who can write the folder would replace it together with what it signs.
TEST_F(SignatureTest, KeysInTheFolderAreNotTrusted) {
  SignAs(7);
  const auto refusal = [&](const std::string& key) {
    return std::string(ReadSigned(folder_, std::vector<std::string>{key}).status().message());
  };
  namespace fs = std::filesystem;
  Write("in.pub", key_.PublicPem());
  fs::create_symlink(folder_ + "/in.pub", root_ + "/to_in.pub");
  fs::create_symlink(trusted_[0], folder_ + "/to_out.pub");
  fs::create_directory_symlink(folder_, root_ + "/other");
  for (const char* key : {"/policies/in.pub", "/to_in.pub", "/policies/to_out.pub", "/other/in.pub",
                          "/policies/none.pub", "/policies/../policies//in.pub"}) {
    EXPECT_THAT(refusal(root_ + key), HasSubstr("so who can write the policies could replace it")) << key;
  }
  EXPECT_EQ(refusal(KeyFile("policies.pub", key_)), "") << "a name that starts alike is none in it";
}

}  // namespace
}  // namespace kveil::bundle
