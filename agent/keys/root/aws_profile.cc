#include "keys/root/aws_profile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::keys {
namespace {

using crypto::SecretText;
using Environment = std::function<const char*(const char*)>;

constexpr size_t kLongestFile = size_t{1} << 20;

absl::Status FileError(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(StrCat(path, " ", why));
}

// nullopt: there is no such file.
absl::StatusOr<std::optional<SecretText>> ReadWhole(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && (errno == ENOENT || errno == ENOTDIR)) return std::optional<SecretText>();
  if (!fd.valid()) return FileError(path, StrCat("cannot be opened: ", strerror(errno)));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return FileError(path, "is not a regular file");
  if (static_cast<size_t>(info.st_size) > kLongestFile) return FileError(path, "is too long");
  SecretText text(static_cast<size_t>(info.st_size) + 1);
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = ::read(fd.get(), text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(path, StrCat("cannot be read: ", strerror(errno)));
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  text.resize(size);
  return std::optional<SecretText>(std::move(text));
}

std::string_view Stripped(std::string_view text) { return ToStd(absl::StripAsciiWhitespace(ToAbsl(text))); }

using Section = std::map<std::string, SecretText>;  // by name in lower case

// The lines of the section [`heading`]. nullopt: there is none.
std::optional<Section> SectionIn(const SecretText& text, std::string_view heading) {
  std::optional<Section> section;
  bool isIn = false;
  std::string_view rest = crypto::AsText(text);
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view whole = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    const std::string_view line = Stripped(whole);
    // An indented line belongs to the one before it; none that matters here has such.
    if (line.empty() || line.front() == '#' || line.front() == ';' || absl::ascii_isspace(whole.front())) continue;
    if (line.front() == '[') {
      std::string_view name = line.substr(1, line.find(']') - 1);
      constexpr std::string_view kProfile = "profile";
      name = Stripped(name);
      if (name.starts_with(kProfile) && name.size() > kProfile.size() && absl::ascii_isspace(name[kProfile.size()])) {
        name = Stripped(name.substr(kProfile.size()));
      }
      isIn = name == heading;
      if (isIn && !section.has_value()) section.emplace();
      continue;
    }
    const size_t equals = line.find('=');
    if (!isIn || equals == std::string_view::npos) continue;
    std::string name(Stripped(line.substr(0, equals)));
    absl::AsciiStrToLower(&name);
    (*section)[name] = crypto::MakeSecretText(Stripped(line.substr(equals + 1)));
  }
  return section;
}

std::string ValueOf(const Environment& environment, const char* name) {
  const char* const value = environment(name);
  return value == nullptr ? "" : value;
}

class Files {
 public:
  explicit Files(const Environment& environment) {
    const std::string home = ValueOf(environment, "HOME");
    const auto path = [&](const char* variable, std::string_view name) {
      std::string named = ValueOf(environment, variable);
      if (!named.empty()) return named;
      return home.empty() ? std::string() : StrCat(home, "/.aws/", name);
    };
    paths_[0] = path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    paths_[1] = path("AWS_CONFIG_FILE", "config");
  }
  // What the two files say of a profile; the first of them goes before the second. nullopt: nothing.
  absl::StatusOr<std::optional<Section>> Read(std::string_view profile) {
    std::optional<Section> both;
    for (const std::string& path : paths_) {
      if (path.empty()) continue;
      ASSIGN_OR_RETURN(const std::optional<SecretText> text, ReadWhole(path));
      std::optional<Section> section = text.has_value() ? SectionIn(*text, profile) : std::nullopt;
      if (!section.has_value()) continue;
      if (!both.has_value()) both.emplace();
      both->merge(*section);
    }
    return both;
  }
  std::string names() const { return StrCat(paths_[0], " and ", paths_[1]); }

 private:
  std::string paths_[2];
};

SecretText Take(Section& section, const char* name) {
  const auto found = section.find(name);
  return found == section.end() ? SecretText() : std::move(found->second);
}

}  // namespace

absl::StatusOr<std::optional<AwsProfile>> ReadAwsProfile(const Environment& environment) {
  const std::string asked = ValueOf(environment, "AWS_PROFILE");
  const std::string name = asked.empty() ? "default" : asked;
  Files files(environment);
  ASSIGN_OR_RETURN(std::optional<Section> section, files.Read(name));
  const auto error = [&](std::string_view what) {
    return absl::FailedPreconditionError(StrCat("AWS profile ", name, " in ", files.names(), " ", what));
  };
  if (!section.has_value()) {
    if (!asked.empty()) return error("is missing");
    return std::optional<AwsProfile>();
  }
  AwsProfile profile;
  AwsCredentials credentials;
  credentials.accessKeyId = Take(*section, "aws_access_key_id");
  credentials.secretAccessKey = Take(*section, "aws_secret_access_key");
  credentials.sessionToken = Take(*section, "aws_session_token");
  profile.roleArn = std::string(crypto::AsText(Take(*section, "role_arn")));
  profile.tokenFile = std::string(crypto::AsText(Take(*section, "web_identity_token_file")));
  profile.sessionName = std::string(crypto::AsText(Take(*section, "role_session_name")));
  if (!profile.roleArn.empty()) {
    if (profile.tokenFile.empty()) return error("has role_arn without web_identity_token_file, which is not supported");
    return std::optional<AwsProfile>(std::move(profile));
  }
  if (credentials.accessKeyId.empty() != credentials.secretAccessKey.empty()) {
    return error("has only one of aws_access_key_id and aws_secret_access_key");
  }
  if (!credentials.accessKeyId.empty()) {
    profile.credentials = std::move(credentials);
    return std::optional<AwsProfile>(std::move(profile));
  }
  for (const char* unsupported : {"credential_process", "sso_session", "sso_start_url", "source_profile"}) {
    if (section->contains(unsupported)) return error(StrCat("has ", unsupported, ", which is not supported"));
  }
  return std::optional<AwsProfile>();
}

}  // namespace kveil::keys
