// The HTTP endpoint of the metrics, the probes and the page.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "base/unique_fd.h"
#include "observe/metrics.h"
#include "observe/page.h"
#include "observe/request_server.h"

namespace kveil::observe {
namespace {

constexpr RequestServer::Options kBounds = {
    .connections = 64, .requestBytes = 16 << 10, .patience = std::chrono::seconds(2)};

// `headers`: more of them, each with its line's end.
std::string HttpAnswer(std::string_view status, std::string_view type, std::string_view body,
                       std::string_view headers = "") {
  return StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type, "\r\n", headers, "Content-Length: ", body.size(),
                "\r\nConnection: close\r\n\r\n", body);
}

constexpr std::string_view kText = "text/plain; charset=utf-8";

// Not why: whoever may ask for that has the admin socket.
std::string AnswerToProbe(bool is, std::string_view what) {
  return is ? HttpAnswer("200 OK", kText, StrCat(what, "\n"))
            : HttpAnswer("503 Service Unavailable", kText, StrCat("not ", what, ": see kveil status\n"));
}

constexpr std::string_view kConnections = "/connections.json";

std::string NotFound() { return HttpAnswer("404 Not Found", kText, "see /metrics, /healthz and /readyz\n"); }

// `path` belongs to the page, which is on.
void AnswerPage(std::string_view request, std::string_view path, const MetricsEndpoint::Page& page,
                const RequestServer::Reply& reply) {
  if (!MayHavePage(request)) {
    return reply(HttpAnswer("403 Forbidden", kText, "ask by an address or as localhost, not by another name\n"));
  }
  if (const PageFile* const file = FindPageFile(path)) {
    return reply(HttpAnswer("200 OK", file->type, file->body, kPageHeaders));
  }
  if (!page.connections) return reply(NotFound());
  page.connections([reply](std::string_view json) {
    reply(json.empty() ? HttpAnswer("503 Service Unavailable", kText, "too many ask at once\n", kPageHeaders)
                       : HttpAnswer("200 OK", "application/json", json, kPageHeaders));
  });
}

void Answer(std::string_view request, const Metrics& metrics, const MetricsEndpoint::Probes& probes,
            const MetricsEndpoint::Page& page, const RequestServer::Reply& reply) {
  const std::string_view requestLine = request.substr(0, request.find("\r\n"));
  const size_t pathAt = requestLine.find(' ');
  if (requestLine.substr(0, pathAt) != "GET") return reply(HttpAnswer("405 Method Not Allowed", kText, "only GET\n"));
  std::string_view path = requestLine.substr(std::min(pathAt + 1, requestLine.size()));
  path = path.substr(0, path.find_first_of(" ?"));
  if (path == "/healthz") return reply(AnswerToProbe(probes.isAlive(), "alive"));
  if (path == "/readyz") return reply(AnswerToProbe(probes.isReady(), "ready"));
  if (path == "/metrics") {
    return reply(HttpAnswer("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics.Text()));
  }
  if (page.isOn && (path == kConnections || FindPageFile(path) != nullptr))
    return AnswerPage(request, path, page, reply);
  reply(NotFound());
}

}  // namespace

struct MetricsEndpoint::Server {
  uint16_t port = 0;
  std::unique_ptr<RequestServer> requests;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Server> server) : server_(std::move(server)) {}
MetricsEndpoint::~MetricsEndpoint() = default;

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Listen(const SocketAddress& address,
                                                                         const Metrics& metrics, Probes probes,
                                                                         Page page) {
  const auto fail = [&address] {
    return absl::UnavailableError(StrCat("cannot listen at ", address.Text(), " for metrics: ", std::strerror(errno)));
  };
  UniqueFd listener(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  if (!listener.valid() || ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
      ::bind(listener.get(), address.get(), address.size()) < 0 || ::listen(listener.get(), 128) < 0) {
    return fail();
  }
  sockaddr_storage bound;
  socklen_t size = sizeof(bound);
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size) < 0) return fail();
  const absl::StatusOr<SocketAddress> local = SocketAddress::From(reinterpret_cast<const sockaddr*>(&bound), size);
  if (!local.ok()) return local.status();
  absl::StatusOr<std::unique_ptr<RequestServer>> requests = RequestServer::Make(std::move(listener), kBounds);
  if (!requests.ok()) return requests.status();
  RequestServer::Callbacks callbacks;
  callbacks.endOf = [](std::string_view received) { return received.find("\r\n\r\n"); };
  callbacks.answer = [&metrics, probes = std::move(probes), page = std::move(page)](std::string_view request, int,
                                                                                    const RequestServer::Reply& reply) {
    Answer(request, metrics, probes, page, reply);
  };
  (*requests)->Start(std::move(callbacks));
  return std::unique_ptr<MetricsEndpoint>(
      new MetricsEndpoint(std::make_unique<Server>(Server{local->port(), *std::move(requests)})));
}

uint16_t MetricsEndpoint::port() const { return server_->port; }

}  // namespace kveil::observe
