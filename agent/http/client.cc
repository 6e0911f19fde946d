// libcurl's easy interface, a handle per request. Its memory is wiped as it is freed, and OpenSSL wipes what it has
// decrypted as it hands it over.
#include "http/client.h"

#include <curl/curl.h>
#include <malloc.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/text.h"

namespace kveil::http {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectLimit{5'000};
constexpr size_t kLongestHeaders = size_t{64} << 10;
constexpr size_t kLongestEtag = 512;

void WipingFree(void* memory) {
  if (memory == nullptr) return;
  crypto::Wipe(MutableBytes(static_cast<uint8_t*>(memory), malloc_usable_size(memory)));
  free(memory);
}

void* WipingRealloc(void* memory, size_t size) {
  if (memory == nullptr) return malloc(size);
  void* const moved = malloc(size);
  if (moved == nullptr) return nullptr;
  memcpy(moved, memory, std::min(size, malloc_usable_size(memory)));
  WipingFree(memory);
  return moved;
}

bool Initialise() {
  return curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, WipingFree, WipingRealloc, strdup, calloc) == CURLE_OK;
}

struct FreeCurl {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Handle = std::unique_ptr<CURL, FreeCurl>;

class Headers {
 public:
  void Add(const char* line) {
    curl_slist* const longer = curl_slist_append(list_.get(), line);
    if (longer == nullptr) return;
    (void)list_.release();
    list_.reset(longer);
  }
  curl_slist* get() const { return list_.get(); }

 private:
  std::unique_ptr<curl_slist, FreeCurl> list_;
};

// What is being received, and why it ended early.
struct Transfer {
  CURL* handle;
  const std::atomic<bool>& isStopping;
  const std::function<bool()>& mayGoOn;
  const std::function<bool(std::string_view)>& onBody;
  size_t longestBody;
  crypto::SecretText body;
  size_t headerBytes = 0;
  std::string etag;
  bool isTooLong = false;
  bool isEnough = false;
  bool isEnded = false;
};

int StatusOf(CURL* handle) {
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

size_t TakeBody(char* bytes, size_t, size_t count, void* context) {
  Transfer& transfer = *static_cast<Transfer*>(context);
  if (transfer.onBody && StatusOf(transfer.handle) == 200) {
    transfer.isEnough = !transfer.onBody({bytes, count});
    return transfer.isEnough ? 0 : count;
  }
  transfer.isTooLong = transfer.body.size() + count > transfer.longestBody;
  if (transfer.isTooLong) return 0;
  crypto::Append(transfer.body, {bytes, count});
  return count;
}

// RFC 9110 section 8.8.3; "" if it is none, or longer than one that is remembered.
std::string EntityTagOf(std::string_view value) {
  value = ToStd(absl::StripAsciiWhitespace(ToAbsl(value)));
  const std::string_view opaque = value.starts_with("W/") ? value.substr(2) : value;
  const bool isQuoted = opaque.size() >= 2 && opaque.front() == '"' && opaque.back() == '"';
  if (!isQuoted || value.size() > kLongestEtag) return "";
  const std::string_view inner = opaque.substr(1, opaque.size() - 2);
  const bool isTag = std::all_of(inner.begin(), inner.end(),
                                 [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '"'; });
  return isTag ? std::string(value) : "";
}

size_t TakeHeader(char* bytes, size_t, size_t count, void* context) {
  Transfer& transfer = *static_cast<Transfer*>(context);
  transfer.headerBytes += count;
  transfer.isTooLong = transfer.headerBytes > kLongestHeaders;
  const std::string_view line(bytes, count);
  if (line.starts_with("HTTP/")) transfer.etag.clear();  // what came before was of an interim response
  constexpr std::string_view kEtag = "etag:";
  if (absl::StartsWithIgnoreCase(ToAbsl(line), ToAbsl(kEtag))) transfer.etag = EntityTagOf(line.substr(kEtag.size()));
  return transfer.isTooLong ? 0 : count;
}

int EndsEarly(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  Transfer& transfer = *static_cast<Transfer*>(context);
  transfer.isEnded = transfer.isEnded || transfer.isStopping || (transfer.mayGoOn && !transfer.mayGoOn());
  return transfer.isEnded ? 1 : 0;
}

CURLcode WipePlaintext(CURL*, void* context, void*) {
  SSL_CTX_set_options(static_cast<SSL_CTX*>(context), SSL_OP_CLEANSE_PLAINTEXT);
  return CURLE_OK;
}

// All options are known to the version that is built with; `ok` is false when memory is short.
class Setter {
 public:
  explicit Setter(CURL* handle) : handle_(handle) {}
  template <typename T>
  Setter& Set(CURLoption option, T value) {
    ok_ = ok_ && curl_easy_setopt(handle_, option, value) == CURLE_OK;
    return *this;
  }
  bool ok() const { return ok_; }

 private:
  CURL* const handle_;
  bool ok_ = true;
};

void SetSecurity(Setter& options, const Client::Options& security) {
  options.Set(CURLOPT_PROTOCOLS_STR, "http,https")
      .Set(CURLOPT_SSL_VERIFYPEER, 1L)
      .Set(CURLOPT_SSL_VERIFYHOST, 2L)
      .Set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2))
      .Set(CURLOPT_SSL_CTX_FUNCTION, &WipePlaintext)
      .Set(CURLOPT_FOLLOWLOCATION, 0L)
      .Set(CURLOPT_PROXY, "")  // none, whatever the environment says
      .Set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED))
      .Set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  if (!security.ca.empty()) {
    options.Set(CURLOPT_CAINFO, security.ca.c_str()).Set(CURLOPT_CAPATH, static_cast<char*>(nullptr));
  }
  if (!security.certificate.empty()) {
    options.Set(CURLOPT_SSLCERT, security.certificate.c_str())
        .Set(CURLOPT_SSLKEY, security.key.c_str())
        .Set(CURLOPT_KEYPASSWD, "");  // nobody is there to be asked for one
  }
}

void SetMethod(Setter& options, const Request& request) {
  if (!request.body.empty()) {
    options.Set(CURLOPT_POSTFIELDS, request.body.data())
        .Set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  }
  options.Set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

absl::Status ErrorOf(CURLcode code, const Transfer& transfer, const char* detail) {
  if (transfer.isStopping || transfer.isEnded) return absl::UnavailableError("the request was ended");
  if (transfer.isEnough) return absl::CancelledError("the response was read far enough");
  if (transfer.isTooLong) return absl::UnavailableError("its response is longer than any it should give");
  const std::string text = detail[0] != 0 ? detail : curl_easy_strerror(code);
  if (code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM) return absl::FailedPreconditionError(text);
  return absl::UnavailableError(text);
}

}  // namespace

Client::Client(Options options) : options_(std::move(options)) {}

absl::StatusOr<Response> Client::Send(const Request& request, Deadline deadline) const {
  static const bool isInitialised = Initialise();
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
  if (left <= milliseconds(0)) return absl::UnavailableError("there is no time left");
  const Handle handle(isInitialised ? curl_easy_init() : nullptr);
  if (handle == nullptr) return absl::UnavailableError("libcurl cannot be used");

  Headers headers;
  headers.Add("User-Agent: kveil");
  headers.Add(StrCat("Accept: ", request.accept).c_str());
  headers.Add("Expect:");  // no waiting for permission to send a body
  if (!request.body.empty()) headers.Add(StrCat("Content-Type: ", request.contentType).c_str());
  for (const crypto::SecretText& header : request.headers) {
    crypto::SecretText line = header;
    line.push_back(0);
    headers.Add(line.data());
  }
  Transfer transfer{handle.get(), isStopping_, request.mayGoOn, request.onBody, options_.longestResponse, {}, 0, {}};
  char detail[CURL_ERROR_SIZE] = "";
  Setter options(handle.get());
  options.Set(CURLOPT_URL, request.url.c_str())
      .Set(CURLOPT_HTTPHEADER, headers.get())
      .Set(CURLOPT_TIMEOUT_MS, static_cast<long>(left.count()))
      .Set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(left, kConnectLimit).count()))
      .Set(CURLOPT_NOSIGNAL, 1L)
      .Set(CURLOPT_TCP_KEEPALIVE, 1L)  // for responses that come piece by piece over minutes
      .Set(CURLOPT_TCP_KEEPIDLE, 10L)
      .Set(CURLOPT_TCP_KEEPINTVL, 5L)
      .Set(CURLOPT_QUICK_EXIT, 1L)  // does not wait for a name's lookup that outlasts the time limit
      .Set(CURLOPT_ERRORBUFFER, detail)
      .Set(CURLOPT_WRITEFUNCTION, &TakeBody)
      .Set(CURLOPT_WRITEDATA, &transfer)
      .Set(CURLOPT_HEADERFUNCTION, &TakeHeader)
      .Set(CURLOPT_HEADERDATA, &transfer)
      .Set(CURLOPT_NOPROGRESS, 0L)
      .Set(CURLOPT_XFERINFOFUNCTION, &EndsEarly)
      .Set(CURLOPT_XFERINFODATA, &transfer);
  SetSecurity(options, options_);
  SetMethod(options, request);
  if (!options.ok()) return absl::UnavailableError("libcurl cannot be used");
  const CURLcode code = curl_easy_perform(handle.get());
  if (code != CURLE_OK) return ErrorOf(code, transfer, detail);
  return Response{StatusOf(handle.get()), std::move(transfer.body), std::move(transfer.etag)};
}

}  // namespace kveil::http
