// Where credentials of AWS come from, in which order, and how they stay fresh.
#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "fake_aws.h"
#include "key_fixture.h"
#include "keys/root/aws_credential_chain.h"
#include "keys/root/aws_profile.h"
#include "keys/root/aws_sources.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Code = absl::StatusCode;
using Variables = std::map<std::string, std::string>;

class AwsCredentialsTest : public KeyTest {
 protected:
  ~AwsCredentialsTest() override { EXPECT_THAT(aws_.complaints(), IsEmpty()); }

  static RootKey::Deadline Soon() { return std::chrono::steady_clock::now() + seconds(10); }
  // Nothing that is not asked for here is asked: no file of this machine, no metadata service.
  AwsOptions Options(Variables variables) const {
    variables.emplace("HOME", folder_);
    variables.emplace("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws_.address());
    return aws_.Options("alias/kveil", std::move(variables));
  }
  static std::string IdOf(AwsCredentialChain& chain) {
    const auto found = chain.Get(Soon());
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? std::string(crypto::AsText((*found)->accessKeyId)) : "";
  }
  std::string IdOf(const Variables& variables) const {
    AwsCredentialChain chain(Options(variables));
    return IdOf(chain);
  }
  absl::Status ErrorOf(const Variables& variables) const {
    AwsCredentialChain chain(Options(variables));
    return chain.Get(Soon()).status();
  }
  void WriteProfile(const std::string& name, const std::string& text) {
    std::filesystem::create_directory(folder_ + "/.aws");
    WriteFile(folder_ + "/.aws/" + name, text);
  }
  Variables WebIdentity() {
    WriteFile(folder_ + "/jwt", "ey.web.identity\n");
    aws_.AllowWebIdentity("arn:aws:iam::111122223333:role/kveil", "ey.web.identity");
    return {{"AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/kveil"},
            {"AWS_WEB_IDENTITY_TOKEN_FILE", folder_ + "/jwt"}};
  }
  Variables Container() {
    WriteFile(folder_ + "/pod", "ey.pod\n");
    aws_.SetContainerToken("ey.pod");
    return {{"AWS_CONTAINER_CREDENTIALS_FULL_URI", aws_.address() + "/container"},
            {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", folder_ + "/pod"}};
  }

  FakeAws aws_;
};

TEST_F(AwsCredentialsTest, TakesWhatIsFirstInAwsOrder) {
  aws_.SetInstanceRole("kveil");
  Variables all = WebIdentity();
  all.merge(Container());
  all["AWS_ACCESS_KEY_ID"] = "AKIAENV";
  all["AWS_SECRET_ACCESS_KEY"] = "s";
  WriteProfile("credentials", "[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n");
  EXPECT_EQ(IdOf(all), "AKIAENV");
  all.erase("AWS_ACCESS_KEY_ID");
  all.erase("AWS_SECRET_ACCESS_KEY");
  EXPECT_EQ(IdOf(all), "ASIA1");
  EXPECT_EQ(aws_.Count("AssumeRoleWithWebIdentity"), 1);
  all.erase("AWS_WEB_IDENTITY_TOKEN_FILE");
  EXPECT_EQ(IdOf(all), "AKIAPROFILE");
  std::filesystem::remove_all(folder_ + "/.aws");
  EXPECT_EQ(IdOf(all), "ASIA2");
  EXPECT_EQ(aws_.Count("container"), 1);
  EXPECT_EQ(IdOf(Variables{}), "ASIA3");
  EXPECT_EQ(aws_.Count("instance"), 2) << "the role's name, and its credentials";
}

// Another identity is never taken in the place of one that was meant.
TEST_F(AwsCredentialsTest, WhatIsThereButCannotBeUsedIsAnError) {
  aws_.SetInstanceRole("kveil");
  const struct {
    Variables variables;
    std::string error;
  } cases[] = {
      {{{"AWS_ACCESS_KEY_ID", "AKIA"}}, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
      {{{"AWS_SECRET_ACCESS_KEY", "topsecret"}}, "only one of"},
      {{{"AWS_WEB_IDENTITY_TOKEN_FILE", "/t"}}, "AWS_WEB_IDENTITY_TOKEN_FILE without AWS_ROLE_ARN"},
      {{{"AWS_WEB_IDENTITY_TOKEN_FILE", folder_ + "/none"}, {"AWS_ROLE_ARN", "r"}}, "No such file"},
      {{{"AWS_PROFILE", "absent"}}, "AWS profile absent"},
      {{{"AWS_SHARED_CREDENTIALS_FILE", folder_}}, "is not a regular file"},
      {{{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "creds"}}, "has to begin with a slash"},
      {{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/creds"}}, "has to be https://"},
      {{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "file:///etc/passwd"}}, "has to be https://"},
      {{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", aws_.address() + "/container"},
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", folder_ + "/none"}},
       "No such file"},
      {{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", aws_.address() + "/container"},
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nX-Other: b"}},
       "is not one line"},
      {{{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://metadata.example"}}, "has to be http:// to a loopback"},
      {{{"AWS_EC2_METADATA_DISABLED", "TRUE"}}, "switched off by AWS_EC2_METADATA_DISABLED"},
  };
  for (const auto& [variables, error] : cases) {
    const absl::Status status = ErrorOf(variables);
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << error << ": " << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(error), Not(HasSubstr("topsecret"))));
  }
  EXPECT_EQ(aws_.Count("instance"), 0);
}

TEST_F(AwsCredentialsTest, ReadsProfilesAsAwsWritesThem) {
  const auto read = [this](Variables variables) {
    variables.emplace("HOME", folder_);
    auto profile = ReadAwsProfile([&](const char* name) {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
    EXPECT_TRUE(profile.ok()) << profile.status();
    return profile.ok() && profile->has_value() ? **std::move(profile) : AwsProfile();
  };
  EXPECT_FALSE(read({}).credentials.has_value());
  WriteProfile("config",
               "# a comment\n[default]\nregion = eu-central-1\naws_session_token = of-config\n\n"
               "[profile team a]\nAWS_ACCESS_KEY_ID=AKIATEAM\r\naws_secret_access_key = a=b+/==\r\n"
               "s3 =\n  max_concurrent_requests = 20\n"
               "[profile web]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /t\nrole_session_name = me\n"
               "[profile empty]\nregion = x\n");
  WriteProfile("credentials",
               "[default]\naws_access_key_id = AKIAONE\naws_secret_access_key = one\n"
               "; another\n[other]\naws_access_key_id = AKIATWO\naws_secret_access_key = two\n"
               "aws_session_token = of-two");
  const AwsProfile one = read({});
  ASSERT_TRUE(one.credentials.has_value());
  EXPECT_EQ(crypto::AsText(one.credentials->accessKeyId), "AKIAONE");
  EXPECT_EQ(crypto::AsText(one.credentials->secretAccessKey), "one");
  const AwsProfile two = read({{"AWS_PROFILE", "other"}});
  ASSERT_TRUE(two.credentials.has_value());
  EXPECT_EQ(crypto::AsText(two.credentials->sessionToken), "of-two");
  const AwsProfile team = read({{"AWS_PROFILE", "team a"}});
  ASSERT_TRUE(team.credentials.has_value());
  EXPECT_EQ(crypto::AsText(team.credentials->accessKeyId), "AKIATEAM");
  EXPECT_EQ(crypto::AsText(team.credentials->secretAccessKey), "a=b+/==");
  const AwsProfile web = read({{"AWS_PROFILE", "web"}});
  EXPECT_FALSE(web.credentials.has_value());
  EXPECT_EQ(web.roleArn + web.tokenFile + web.sessionName, "arn:aws:iam::1:role/r/tme");
  EXPECT_FALSE(read({{"AWS_PROFILE", "empty"}}).credentials.has_value());
  WriteFile(folder_ + "/elsewhere", "[default]\naws_access_key_id = AKIATHREE\naws_secret_access_key = three\n");
  const AwsProfile three = read({{"AWS_SHARED_CREDENTIALS_FILE", folder_ + "/elsewhere"}});
  ASSERT_TRUE(three.credentials.has_value());
  EXPECT_EQ(crypto::AsText(three.credentials->accessKeyId), "AKIATHREE");
}

TEST_F(AwsCredentialsTest, RefusesWhatAProfileAsksForAndTheAgentCannotDo) {
  for (const auto& [line, error] :
       {std::pair("credential_process = /bin/x", "has credential_process"),
        std::pair("sso_session = s", "has sso_session"),
        std::pair("role_arn = r\nsource_profile = p", "has role_arn without web_identity_token_file"),
        std::pair("aws_access_key_id = AKIA", "has only one of aws_access_key_id")}) {
    WriteProfile("config", StrCat("[default]\n", line, "\n"));
    const absl::Status status = ErrorOf({});
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
  }
}

TEST_F(AwsCredentialsTest, PlainHttpIsForTheNodeOnly) {
  for (const std::string good :
       {"http://127.0.0.1", "http://127.0.0.1:80/x", "http://localhost/", "http://[::1]:1338", "http://169.254.169.254",
        "http://169.254.170.2/x?y", "http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1/credentials",
        "http://[fd00:ec2::254]"}) {
    EXPECT_TRUE(aws::IsOnTheNode(good)) << good;
  }
  for (const std::string bad :
       {"https://127.0.0.1", "http://127.0.0.1.example", "http://127.0.0.1@example", "http://example",
        "http://10.0.0.1", "http://localhost.example", "http://[::1", "http://[::1].example",
        "http://169.254.169.254.example", "http://", "http://127.0.0.1:", "http://localhost:80@example/",
        "http://[::2]", "http://169.254.1.1"}) {
    EXPECT_FALSE(aws::IsOnTheNode(bad)) << bad;
  }
  const auto url = [](Variables variables) {
    return aws::ContainerUrl([variables](const char* name) {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
  };
  EXPECT_EQ(url({{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"}})->value(), "http://169.254.170.2/v2/x");
  EXPECT_EQ(url({{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://a.example/x"}})->value(), "https://a.example/x");
  EXPECT_FALSE(url({})->has_value());
}

TEST_F(AwsCredentialsTest, RenewsThemWellBeforeTheyEnd) {
  aws_.SetInstanceRole("kveil");
  aws_.SetLifetime(absl::Seconds(2));
  AwsCredentialChain chain(Options({}));
  std::set<std::string> ids;
  const auto end = std::chrono::steady_clock::now() + seconds(5);
  while (std::chrono::steady_clock::now() < end) {
    const auto found = chain.Get(Soon());
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_GT(*(*found)->endsAt, absl::Now());
    ids.insert(std::string(crypto::AsText((*found)->accessKeyId)));
    usleep(10'000);
  }
  EXPECT_GE(ids.size(), 3u);
  EXPECT_LE(ids.size(), 5u) << "after three to four fifths of their time";
}

TEST_F(AwsCredentialsTest, AnOutageOfTheSourceIsWaitedOutWithTheOldOnes) {
  aws_.SetInstanceRole("kveil");
  aws_.SetLifetime(absl::Seconds(2));
  AwsCredentialChain chain(Options({}));
  EXPECT_EQ(IdOf(chain), "ASIA1");
  aws_.SetFault([](const FakeAws::Request&) { return FakeAws::Response{503, "", "text/plain"}; });
  usleep(1'700'000);
  const int before = aws_.Count("instance token");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(IdOf(chain), "ASIA1") << "they still hold";
  EXPECT_EQ(aws_.Count("instance token"), before + 1) << "asked once, not by everybody";
  usleep(500'000);
  const absl::Status status = chain.Get(Soon()).status();
  EXPECT_EQ(status.code(), Code::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the instance metadata service answers with HTTP 503"));
  aws_.SetFault(nullptr);
  EXPECT_EQ(IdOf(chain), "ASIA2");
}

TEST_F(AwsCredentialsTest, ManyThreadsAskOnce) {
  aws_.SetInstanceRole("kveil");
  aws_.SetDelay(milliseconds(50));
  AwsCredentialChain chain(Options({}));
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_EQ(IdOf(chain), "ASIA1"); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(aws_.Count("instance token"), 1);
}

TEST_F(AwsCredentialsTest, ReplacesRefusedOnesOnceInAWhile) {
  AwsOptions options = Options({});
  aws_.SetInstanceRole("kveil");
  AwsCredentialChain chain(options);
  const auto first = chain.Get(Soon());
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = chain.Replace(*first, Soon());
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_NE(*second, nullptr);
  EXPECT_EQ(crypto::AsText((*second)->accessKeyId), "ASIA2");
  EXPECT_EQ(*chain.Replace(*first, Soon()), *second) << "another thread was quicker";

  options.replacePause = seconds(3600);
  AwsCredentialChain patient(options);
  const auto kept = patient.Get(Soon());
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(*patient.Replace(*kept, Soon()), nullptr);

  WriteProfile("credentials", "[default]\naws_access_key_id = AKIA\naws_secret_access_key = s\n");
  options.replacePause = milliseconds(0);
  AwsCredentialChain file(options);
  const auto fixed = file.Get(Soon());
  ASSERT_TRUE(fixed.ok()) << fixed.status();
  EXPECT_EQ(*file.Replace(*fixed, Soon()), nullptr) << "the file still has the same";
  WriteProfile("credentials", "[default]\naws_access_key_id = AKIA\naws_secret_access_key = new\n");
  const auto changed = file.Replace(*fixed, Soon());
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(crypto::AsText((*changed)->secretAccessKey), "new");
}

TEST_F(AwsCredentialsTest, TellsWhatAnInstanceCannotGive) {
  const auto expect = [&](Code code, const std::string& text) {
    const absl::Status status = ErrorOf({});
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("no credentials"), HasSubstr(text)));
  };
  expect(Code::kFailedPrecondition, "the instance has no role");
  aws_.SetInstanceRole("kveil");
  const auto answer = [&](const std::string& operation, int status, const std::string& body) {
    aws_.SetFault([=](const FakeAws::Request& request) -> std::optional<FakeAws::Response> {
      const bool isToken = request.path == "/latest/api/token";
      const bool isName = request.path.ends_with("/security-credentials/");
      if (operation != (isToken ? "token" : isName ? "name" : "credentials")) return std::nullopt;
      return FakeAws::Response{status, body, "text/plain"};
    });
  };
  answer("token", 403, "");
  expect(Code::kFailedPrecondition, "HTTP 403");
  answer("token", 404, "");
  expect(Code::kUnavailable, "HTTP 404");
  answer("token", 200, "a\r\nb: c");
  expect(Code::kUnavailable, "no token");
  answer("name", 200, "../../user-data");
  expect(Code::kUnavailable, "no role");
  answer("name", 500, "");
  expect(Code::kUnavailable, "HTTP 500");
  answer("credentials", 200, R"({"Code":"AssumeRoleUnauthorizedAccess"})");
  expect(Code::kFailedPrecondition, "AssumeRoleUnauthorizedAccess");
  for (const std::string body : {"", "<html>", "[]", "{}", R"({"Code":"Success","AccessKeyId":"A"})",
                                 R"({"AccessKeyId":"A","SecretAccessKey":"","Token":"t"})",
                                 R"({"AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"soon"})"}) {
    answer("credentials", 200, body);
    expect(Code::kUnavailable, "what are no credentials");
  }
  aws_.SetFault(nullptr);
  aws_.SetSilent(true);
  const auto begun = std::chrono::steady_clock::now();
  expect(Code::kUnavailable, "does not answer");
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
  aws_.SetSilent(false);
  aws_.Stop();
  expect(Code::kUnavailable, "does not answer");
  aws_.Start();
  EXPECT_EQ(IdOf(Variables{}).substr(0, 4), "ASIA");
}

TEST_F(AwsCredentialsTest, TellsWhyAWebIdentityIsRefused) {
  const Variables variables = WebIdentity();
  WriteFile(folder_ + "/jwt", "ey.another");
  const auto expect = [&](Code code, const std::string& text) {
    const absl::Status status = ErrorOf(variables);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(text), Not(HasSubstr("ey."))));
  };
  expect(Code::kPermissionDenied, "InvalidIdentityToken: No OpenIDConnect provider");
  const auto answer = [&](int status, const std::string& body) {
    aws_.SetFault([=](const FakeAws::Request&) { return FakeAws::Response{status, body, "text/xml"}; });
  };
  const auto error = [](const std::string& code) {
    return StrCat("<ErrorResponse><Error><Code>", code, "</Code><Message>m</Message></Error></ErrorResponse>");
  };
  answer(400, error("ExpiredTokenException"));
  expect(Code::kPermissionDenied, "HTTP 400 ExpiredTokenException: m");
  answer(400, error("IDPCommunicationError"));
  expect(Code::kUnavailable, "IDPCommunicationError");
  answer(400, error("Throttling"));
  expect(Code::kUnavailable, "Throttling");
  answer(403, error("RegionDisabledException"));
  expect(Code::kFailedPrecondition, "RegionDisabledException");
  answer(500, error("AccessDenied"));
  expect(Code::kUnavailable, "HTTP 500");
  answer(403, "<html>Blocked by the company's gateway</html>");
  expect(Code::kUnavailable, "HTTP 403");
  for (const std::string body :
       {"", "<a>", "<AccessKeyId>A</AccessKeyId>",
        "<AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>",
        "<AccessKeyId>A</AccessKeyId><AccessKeyId>B</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>t</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>",
        "<AccessKeyId><b>A</b></AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>t</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>"}) {
    answer(200, body);
    expect(Code::kUnavailable, "what are no credentials");
  }
  aws_.SetFault(nullptr);
  WriteFile(folder_ + "/jwt", "ey.web.identity");
  EXPECT_EQ(IdOf(variables).substr(0, 4), "ASIA") << "a new token is taken";
}

TEST_F(AwsCredentialsTest, AContainersEndpointThatRefusesNeedsTheOperator) {
  Variables variables = Container();
  aws_.SetContainerToken("ey.another");
  EXPECT_EQ(ErrorOf(variables).code(), Code::kFailedPrecondition);
  variables.erase("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "Basic ey.another";
  aws_.SetContainerToken("Basic ey.another");
  EXPECT_EQ(IdOf(variables).substr(0, 4), "ASIA");
}

}  // namespace
}  // namespace kveil::keys
