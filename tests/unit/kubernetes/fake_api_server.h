// A Kubernetes API server on loopback that knows pods and a node. It lists the pods, and sends what happens to them to
// whoever watches. The node can be read and patched. It is strict: whatever the agent should not ask is answered with
// 418 and noted.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../io/fake_server.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/mutex.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::kubernetes {

inline nlohmann::json PodJson(const std::string& uid, const std::string& nameSpace, const std::string& name,
                              const std::string& serviceAccount, nlohmann::json labels = nlohmann::json::object()) {
  return {{"metadata", {{"uid", uid}, {"namespace", nameSpace}, {"name", name}, {"labels", std::move(labels)}}},
          {"spec", {{"serviceAccountName", serviceAccount}, {"nodeName", "node1"}}}};
}

// What the kubelet makes of a static pod at the API server.
inline nlohmann::json MirrorJson(const std::string& uid, const std::string& hash, const std::string& name,
                                 nlohmann::json labels = nlohmann::json::object()) {
  nlohmann::json pod = PodJson(uid, "default", name, "", std::move(labels));
  pod["spec"].erase("serviceAccountName");
  pod["metadata"]["annotations"] = {{"kubernetes.io/config.hash", hash},
                                    {"kubernetes.io/config.mirror", hash},
                                    {"kubernetes.io/config.source", "file"}};
  return pod;
}

class FakeApiServer : public io::FakeServer {
 public:
  FakeApiServer() { Start(); }
  ~FakeApiServer() override { Stop(); }

  std::string address() const { return StrCat("http://127.0.0.1:", port()); }

  void AllowToken(const std::string& token) {
    const MutexLock lock(mutex_);
    token_ = token;
  }
  // Tells watchers, too.
  void Put(const nlohmann::json& pod) {
    const MutexLock lock(mutex_);
    const std::string uid = pod["metadata"]["uid"];
    const bool isNew = pods_.insert_or_assign(uid, pod).second;
    events_.push_back(nlohmann::json{{"type", isNew ? "ADDED" : "MODIFIED"}, {"object", pod}}.dump());
  }
  void Remove(const std::string& uid) {
    const MutexLock lock(mutex_);
    events_.push_back(nlohmann::json{{"type", "DELETED"}, {"object", pods_.at(uid)}}.dump());
    pods_.erase(uid);
  }
  // Not in a list, and told to nobody: an event that was lost.
  void PutSilently(const nlohmann::json& pod) {
    const MutexLock lock(mutex_);
    pods_.insert_or_assign(pod["metadata"]["uid"], pod);
  }
  // A line of the watch as it is.
  void Say(const std::string& line) {
    const MutexLock lock(mutex_);
    events_.push_back(line);
  }
  // Lists are answered with this status and body; 0: as they should be.
  void AnswerLists(int status, const std::string& body = "") {
    const MutexLock lock(mutex_);
    listStatus_ = status;
    listBody_ = body;
  }
  void EndWatches() { ++watchesEnded_; }
  void SetTaints(nlohmann::json taints) {
    const MutexLock lock(mutex_);
    taints_ = std::move(taints);
  }
  nlohmann::json taints() const {
    const MutexLock lock(mutex_);
    return taints_;
  }
  // What happens between the next reading of the node and its patch.
  void BeforePatch(std::function<void(nlohmann::json& taints)> change) {
    const MutexLock lock(mutex_);
    beforePatch_ = std::move(change);
  }
  // What the last list was asked with, behind the selectors.
  std::string lastListQuery() const {
    const MutexLock lock(mutex_);
    return lastListQuery_;
  }
  int patches() const { return patches_; }
  int nodeReads() const { return nodeReads_; }

  int lists() const { return lists_; }
  int watches() const { return watches_; }
  std::vector<std::string> complaints() const {
    const MutexLock lock(mutex_);
    return complaints_;
  }

 private:
  static bool Write(int fd, const std::string& text) {
    return send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  static void Answer(int fd, int status, const std::string& body) {
    Write(fd, StrCat("HTTP/1.1 ", status, " Status\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  }

  void Serve(int fd) override {
    std::string head;
    while (!absl::StrContains(head, "\r\n\r\n") && !isStopping()) {
      char bytes[4096];
      const ssize_t count = recv(fd, bytes, sizeof bytes, 0);
      if (count <= 0) return;
      head.append(bytes, static_cast<size_t>(count));
    }
    if (isStopping()) return;
    const std::string target = std::vector<std::string>(absl::StrSplit(head, ' ')).at(1);
    constexpr std::string_view kPath =
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1%2Cstatus.phase!%3DSucceeded%2Cstatus.phase!%3DFailed";
    std::string token;
    {
      const MutexLock lock(mutex_);
      token = token_;
      const bool isKnown = absl::StartsWith(head, StrCat("GET ", kPath)) ||
                           absl::StartsWith(head, "GET /api/v1/nodes/node1 ") ||
                           absl::StartsWith(head, "PATCH /api/v1/nodes/node1 ");
      if (!isKnown || !absl::StrContains(head, "\r\nAuthorization: Bearer ")) {
        complaints_.push_back(head);
        return Answer(fd, 418, "");
      }
    }
    if (!absl::StrContains(head, StrCat("\r\nAuthorization: Bearer ", token, "\r\n"))) {
      return Answer(fd, 401, R"({"kind":"Status","message":"Unauthorized"})");
    }
    if (absl::StartsWith(head, "PATCH ")) return ServePatch(fd, std::move(head));
    if (absl::StartsWith(target, "/api/v1/nodes/")) return ServeNode(fd);
    absl::StrContains(target, "watch=1") ? ServeWatch(fd, target)
                                         : ServeList(fd, target.substr(target.find("Failed") + 6));
  }

  void ServeNode(int fd) {
    ++nodeReads_;
    const MutexLock lock(mutex_);
    nlohmann::json node{{"kind", "Node"}, {"metadata", {{"name", "node1"}}}, {"spec", nlohmann::json::object()}};
    if (!taints_.is_null()) node["spec"]["taints"] = taints_;
    Answer(fd, 200, node.dump());
  }

  void ServePatch(int fd, std::string request) {
    const size_t body = request.find("\r\n\r\n") + 4;
    const size_t length = request.find("\r\nContent-Length: ");
    const size_t size = length == std::string::npos ? 0 : std::stoul(request.substr(length + 18));
    while (request.size() < body + size) {
      char bytes[4096];
      const ssize_t count = recv(fd, bytes, sizeof bytes, 0);
      if (count <= 0) return;
      request.append(bytes, static_cast<size_t>(count));
    }
    ++patches_;
    const MutexLock lock(mutex_);
    if (!absl::StrContains(request, "\r\nContent-Type: application/json-patch+json\r\n")) {
      complaints_.push_back(request);
      return Answer(fd, 415, "");
    }
    if (beforePatch_) std::exchange(beforePatch_, nullptr)(taints_);
    try {
      const nlohmann::json node{{"spec", {{"taints", taints_}}}};
      taints_ = node.patch(nlohmann::json::parse(request.substr(body)))["spec"]["taints"];
    } catch (const nlohmann::json::exception& error) {
      return Answer(fd, 422, nlohmann::json{{"message", error.what()}}.dump());
    }
    Answer(fd, 200, "{}");
  }

  void ServeList(int fd, const std::string& query) {
    const MutexLock lock(mutex_);
    lastListQuery_ = query;
    ++lists_;
    if (listStatus_ != 0) return Answer(fd, listStatus_, listBody_);
    nlohmann::json items = nlohmann::json::array();
    for (const auto& [uid, pod] : pods_) items.push_back(pod);
    Answer(
        fd, 200,
        nlohmann::json{{"metadata", {{"resourceVersion", std::to_string(events_.size())}}}, {"items", items}}.dump());
  }

  void ServeWatch(int fd, const std::string& target) {
    const int ended = watchesEnded_;
    ++watches_;  // whoever sees it may end it
    const std::string from = target.substr(target.find("resourceVersion=") + 16);
    size_t next = static_cast<size_t>(std::stoul(from));
    Write(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    while (!isStopping() && watchesEnded_ == ended) {
      std::vector<std::string> lines;
      {
        const MutexLock lock(mutex_);
        for (; next < events_.size(); ++next) lines.push_back(events_[next]);
      }
      for (const std::string& line : lines) {
        // In two pieces, as it may come.
        const size_t half = line.size() / 2;
        if (!Write(fd, line.substr(0, half)) || !Write(fd, line.substr(half) + "\n")) return;
      }
      char byte;
      if (recv(fd, &byte, 1, MSG_DONTWAIT) == 0) return;
      usleep(2'000);
    }
  }

  std::atomic<int> lists_{0}, watches_{0}, watchesEnded_{0}, patches_{0}, nodeReads_{0};
  mutable Mutex mutex_;
  std::string token_ ABSL_GUARDED_BY(mutex_) = "token-1";
  std::map<std::string, nlohmann::json> pods_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> events_ ABSL_GUARDED_BY(mutex_);  // the resource version counts them
  nlohmann::json taints_ ABSL_GUARDED_BY(mutex_);
  std::function<void(nlohmann::json&)> beforePatch_ ABSL_GUARDED_BY(mutex_);
  std::string lastListQuery_ ABSL_GUARDED_BY(mutex_);
  int listStatus_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string listBody_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> complaints_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::kubernetes
