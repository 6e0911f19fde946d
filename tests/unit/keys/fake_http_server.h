// An HTTP or HTTPS server on loopback that a test's fake service stands on: one connection per request.
#pragma once

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../io/certificates.h"
#include "../io/fake_server.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "base/bytes.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::keys {

// The fields of a form or of a query, decoded.
inline std::map<std::string, std::string> FieldsOf(const std::string& text) {
  std::map<std::string, std::string> fields;
  for (const auto field : absl::StrSplit(text, '&')) {
    const std::vector<std::string> parts = absl::StrSplit(field, absl::MaxSplits('=', 1));
    std::string value;
    for (size_t i = 0; i < parts.at(1).size(); ++i) {
      if (parts[1][i] != '%') {
        value.push_back(parts[1][i]);
        continue;
      }
      value.push_back(static_cast<char>(std::stoi(parts[1].substr(i + 1, 2), nullptr, 16)));
      i += 2;
    }
    EXPECT_TRUE(fields.emplace(parts[0], value).second) << field;
  }
  return fields;
}

class FakeHttpServer : public io::FakeServer {
 public:
  struct Request {
    std::string method, path;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string text;                            // the body
    nlohmann::json body;                         // the same, if it is JSON
    // Empty: there is no such header.
    std::string Header(const std::string& name) const {
      const auto found = headers.find(name);
      return found == headers.end() ? "" : found->second;
    }
  };
  struct Response {
    int status = 200;
    std::string body;
    std::string contentType = "application/json";
    std::string headers = {};          // more of them, each with its line's end
    size_t sends = std::string::npos;  // so much of the body, whatever the headers say
    static Response Of(const nlohmann::json& json) { return {200, json.dump()}; }
    // As Vault writes it.
    static Response Error(int status, const std::string& reason) {
      return {status, nlohmann::json{{"errors", {reason}}}.dump()};
    }
  };

  // Plain HTTP without a certificate; with `clientCa`, clients have to show one of that authority. Whoever derives from
  // it calls Start and, before its end, Stop.
  explicit FakeHttpServer(const io::TestCertificate& certificate = {}, const std::string& clientCa = "") {
    signal(SIGPIPE, SIG_IGN);
    if (certificate.certificate.empty()) return;
    context_.reset(SSL_CTX_new(TLS_server_method()));
    EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context_.get(), certificate.certificate.c_str()), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_.get(), certificate.key.c_str(), SSL_FILETYPE_PEM), 1);
    if (clientCa.empty()) return;
    EXPECT_EQ(SSL_CTX_load_verify_locations(context_.get(), clientCa.c_str(), nullptr), 1);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }

  std::string address(const std::string& host = "127.0.0.1") const {
    return StrCat(context_ ? "https://" : "http://", host, ":", port());
  }

  // Accepts and reads, and says nothing.
  void SetSilent(bool silent) { isSilent_ = silent; }
  void SetDelay(std::chrono::milliseconds delay) { delay_ = delay; }

  static std::string Base64(Bytes bytes) {
    std::string text;
    absl::Base64Escape(ToAbsl(AsText(bytes)), &text);
    return text;
  }
  static std::string FromBase64(const std::string& text) {
    std::string bytes;
    EXPECT_TRUE(absl::Base64Unescape(text, &bytes)) << text;
    return bytes;
  }

 protected:
  // On a thread of the connection.
  virtual Response Answer(const Request& request) = 0;

  static bool HasOnly(const nlohmann::json& object, const std::vector<std::string>& names) {
    if (!object.is_object() || object.size() != names.size()) return false;
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) { return object.contains(name); });
  }

 private:
  struct FreeSsl {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  using Ssl = std::unique_ptr<SSL, FreeSsl>;
  using Clock = std::chrono::steady_clock;

  void Serve(int fd) override {
    const timeval limit{0, 50'000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    Ssl ssl;
    if (context_ != nullptr && !isSilent_) {
      ssl.reset(SSL_new(context_.get()));
      SSL_set_fd(ssl.get(), fd);
      for (int done = 0; done != 1;) {
        done = SSL_accept(ssl.get());
        const bool waits = SSL_get_error(ssl.get(), done) == SSL_ERROR_WANT_READ && !isStopping();
        if (done != 1 && !waits) return;
      }
    }
    std::string text;
    size_t size = std::string::npos;
    while (!isStopping() && (isSilent_ || text.size() < size)) {
      char bytes[16384];
      const int count =
          ssl ? SSL_read(ssl.get(), bytes, sizeof bytes) : static_cast<int>(recv(fd, bytes, sizeof bytes, 0));
      if (count == 0) return;
      if (count < 0) {
        const bool waits = ssl ? SSL_get_error(ssl.get(), count) == SSL_ERROR_WANT_READ : errno == EAGAIN;
        if (!waits) return;
        continue;
      }
      text.append(bytes, static_cast<size_t>(count));
      if (size == std::string::npos) size = SizeOf(text);
    }
    if (isStopping()) return;
    const auto answerAt = Clock::now() + delay_.load();
    while (Clock::now() < answerAt && !isStopping()) usleep(5'000);
    const Response response = Answer(Parse(text));
    const std::string out = StrCat("HTTP/1.1 ", response.status, " X\r\nContent-Type: ", response.contentType, "\r\n",
                                   response.status / 100 == 3 ? StrCat("Location: ", address(), "/elsewhere\r\n") : "",
                                   response.headers, "Content-Length: ", response.body.size(),
                                   "\r\nConnection: close\r\n\r\n", response.body.substr(0, response.sends));
    for (size_t sent = 0; sent < out.size();) {
      const size_t left = std::min<size_t>(out.size() - sent, 1 << 16);
      const int count = ssl ? SSL_write(ssl.get(), out.data() + sent, static_cast<int>(left))
                            : static_cast<int>(send(fd, out.data() + sent, left, MSG_NOSIGNAL));
      if (count <= 0) return;
      sent += static_cast<size_t>(count);
    }
    if (ssl) SSL_shutdown(ssl.get());
  }

  // Of the whole request, once its headers are there.
  static size_t SizeOf(const std::string& text) {
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) return std::string::npos;
    const size_t length = text.find("Content-Length: ");
    return end + 4 + (length < end ? std::stoul(text.substr(length + 16)) : 0);
  }

  static Request Parse(const std::string& text) {
    Request request;
    const size_t end = text.find("\r\n\r\n");
    const std::vector<std::string> lines = absl::StrSplit(text.substr(0, end), "\r\n");
    const std::vector<std::string> first = absl::StrSplit(lines.front(), ' ');
    EXPECT_EQ(first.size(), 3u) << lines.front();
    EXPECT_EQ(first.back(), "HTTP/1.1");
    request.method = first.at(0);
    request.path = first.at(1);
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::vector<std::string> parts = absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      EXPECT_TRUE(request.headers.emplace(absl::AsciiStrToLower(parts.at(0)), parts.at(1)).second) << lines[i];
    }
    request.text = text.substr(end + 4);
    request.body = nlohmann::json::parse(request.text, nullptr, false);
    return request;
  }

  std::unique_ptr<SSL_CTX, FreeSsl> context_;
  std::atomic<bool> isSilent_{false};
  std::atomic<std::chrono::milliseconds> delay_{std::chrono::milliseconds(0)};
};

}  // namespace kveil::keys
