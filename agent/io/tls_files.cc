#include "io/tls_files.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/text.h"

namespace kveil::io {

absl::StatusOr<UniqueFd> OpenPem(const std::string& path) {
  UniqueFd opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // it may be a pipe
  if (opened.valid()) return opened;
  return absl::InvalidArgumentError(StrCat(path, ": cannot be read: ", std::strerror(errno)));
}

absl::Status WrongPem(const std::string& path, std::string_view what) {
  const absl::StatusOr<UniqueFd> opened = OpenPem(path);
  return opened.ok() ? absl::InvalidArgumentError(StrCat(path, ": ", what)) : opened.status();
}

std::string SubjectText(X509* certificate) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), BIO_free);
  X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(text.get(), &bytes);
  return size > 0 ? std::string(bytes, static_cast<size_t>(size)) : "nobody";
}

int NoPassphrase(char*, int, int, void*) { return -1; }

}  // namespace kveil::io
