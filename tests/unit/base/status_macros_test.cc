#include "base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace kveil {
namespace {

int evaluated = 0;

absl::Status Check(bool ok) {
  ++evaluated;
  return ok ? absl::OkStatus() : absl::NotFoundError("no such thing");
}
absl::StatusOr<std::unique_ptr<int>> Make(bool ok) {
  ++evaluated;
  if (!ok) return absl::NotFoundError("nothing to make it of");
  return std::make_unique<int>(7);
}

absl::StatusOr<int> Both(bool isFirstOk, bool isSecondOk) {
  if (isFirstOk)
    RETURN_IF_ERROR(Check(true));
  else
    RETURN_IF_ERROR(Check(false));
  ASSIGN_OR_RETURN(const std::unique_ptr<int> made, Make(isSecondOk));
  std::unique_ptr<int> other;
  ASSIGN_OR_RETURN(other, Make(isSecondOk));
  return *made + *other;
}

TEST(StatusMacrosTest, GoOnWithTheValueWhereThereIsNoError) {
  evaluated = 0;
  const absl::StatusOr<int> sum = Both(true, true);
  ASSERT_TRUE(sum.ok()) << sum.status();
  EXPECT_EQ(*sum, 14);
  EXPECT_EQ(evaluated, 3) << "each once";
}

TEST(StatusMacrosTest, ReturnTheFirstErrorAndDoNothingMore) {
  evaluated = 0;
  EXPECT_EQ(Both(false, true).status(), absl::NotFoundError("no such thing"));
  EXPECT_EQ(evaluated, 1);
  EXPECT_EQ(Both(true, false).status(), absl::NotFoundError("nothing to make it of"));
  EXPECT_EQ(evaluated, 3);
}

}  // namespace
}  // namespace kveil
