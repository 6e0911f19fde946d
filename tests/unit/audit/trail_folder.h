// A trail for tests of what reads it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "audit/trail.h"
#include "base/text.h"
#include "gtest/gtest.h"

namespace kveil::audit {

class TrailFolder : public testing::Test {
 protected:
  TrailFolder() {
    char path[] = "/tmp/kveil-trail-XXXXXX";
    parent_ = mkdtemp(path);
    folder_ = parent_ + "/audit";
    Open();
  }
  ~TrailFolder() override { std::filesystem::remove_all(parent_); }

  void Open(const Trail::Limits& limits = {}) {
    trail_.reset();
    absl::StatusOr<std::unique_ptr<Trail>> opened = Trail::Open(folder_, limits);
    ASSERT_TRUE(opened.ok()) << opened.status();
    trail_ = *std::move(opened);
  }
  // The lines' numbers go on where they were. `later`: what has passed since the last ones.
  void Append(int count, absl::Duration later = absl::ZeroDuration()) {
    now_ += later;
    std::vector<std::string> objects;
    for (int i = 0; i < count; ++i) objects.push_back(StrCat("{\"kind\":\"test\",\"i\":", i, "}"));
    const absl::Status appended = trail_->Append(objects, {.now = now_, .elapsed = later});
    ASSERT_TRUE(appended.ok()) << appended;
  }

  std::string parent_, folder_;
  std::unique_ptr<Trail> trail_;
  absl::Time now_ = absl::FromUnixSeconds(1'795'000'000);
};

}  // namespace kveil::audit
