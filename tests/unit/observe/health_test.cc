// Conditions come, change and go.
#include "observe/health.h"

#include <gtest/gtest.h>

namespace kveil::observe {
namespace {

TEST(HealthTest, ProblemsAreThoseThatWereNotCleared) {
  Health health;
  EXPECT_TRUE(health.ok());
  health.Set("registry", absl::UnavailableError("locked"));
  health.Set("policy", absl::InvalidArgumentError("broken"));
  health.Set("registry", absl::UnavailableError("full"));
  health.Set("kernel", absl::OkStatus());
  ASSERT_EQ(health.problems().size(), 2u);
  EXPECT_EQ(health.problems()[0].name, "policy");
  EXPECT_EQ(health.problems()[1].message, "full");
  EXPECT_FALSE(health.ok());
  health.Set("registry", absl::OkStatus());
  health.Set("policy", absl::OkStatus());
  EXPECT_TRUE(health.ok());
}

TEST(HealthTest, NotesAreNoProblems) {
  Health health;
  health.Note("limits", "a workload has reached its own");
  EXPECT_TRUE(health.ok());
  ASSERT_EQ(health.notes().size(), 1u);
  EXPECT_EQ(health.notes()[0].message, "a workload has reached its own");
  health.Note("limits", "");
  EXPECT_TRUE(health.notes().empty());
}

}  // namespace
}  // namespace kveil::observe
