// `kveil consent import`: the file is read twice. First every line is checked; then the agent gets the changes in
// pieces. What is so already costs it a look, so an interrupted run is simply repeated.
#include <algorithm>
#include <iostream>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "admin/admin_client.h"
#include "admin/user_commands.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "cli/changing_users.h"
#include "cli/common.h"
#include "cli/consents_file.h"
#include "cli/progress.h"

namespace kveil::cli {
namespace {

using admin::ChangeUsersCommand;
using Change = ChangeUsersCommand::Change;

constexpr char kCommand[] = "consent import";
// A request holds 64 KiB. In JSON, a byte of an id may take six.
constexpr size_t kMostBytesOfAPiece = 48 << 10;
// A registry that is restarted, or whose lock is held, is asked again.
constexpr int kMostAttempts = 10;
constexpr std::chrono::seconds kBetweenAttempts{1};
constexpr size_t kWorkedToGrow = 16;
constexpr size_t kMostLinesNamed = 10;
constexpr size_t kMostPurposesNamed = 10;

size_t SizeOf(const Change& change) {
  return 64 + 6 * change.user.size() + change.name.size() + change.until.value_or("").size();
}

struct Sum {
  size_t changed = 0, unchanged = 0, erased = 0, tooMany = 0, followed = 0, damaged = 0;
  std::vector<size_t> linesNotRecorded;  // the first of them
  uint64_t number = 0;
  std::set<std::string> undeclared;   // purposes, the first of them
  bool isUnnamed = false;             // the keyspace
  std::vector<std::string> openings;  // different ones; not many, as the registry is opened anew seldom

  size_t notRecorded() const { return tooMany + followed + damaged; }
};

// How many lines there are. Every one is checked.
absl::StatusOr<size_t> CheckAll(const ConsentOptions& options) {
  ASSIGN_OR_RETURN(ConsentsFile file, ConsentsFile::Open(options.file, options.who.encoding));
  size_t count = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const std::optional<Change> change, file.Next());
    if (!change.has_value()) break;
    ++count;
  }
  if (count == 0) return absl::InvalidArgumentError(StrCat(options.file, ": has no line"));
  return count;
}

struct Piece {
  std::vector<Change> changes;
  std::vector<size_t> lines;
};

void Add(absl::Span<const size_t> lines, const ChangeUsersCommand::Response& response, Sum& sum) {
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& outcome = response.outcomes[i];
    const bool isErased = outcome == ChangeUsersCommand::kErased;
    if (outcome == ChangeUsersCommand::kChanged) {
      ++sum.changed;
    } else if (outcome == ChangeUsersCommand::kUnchanged) {
      ++sum.unchanged;
    } else {
      const bool isFollowed = outcome == ChangeUsersCommand::kFollowed;
      const bool isDamaged = outcome == ChangeUsersCommand::kDamaged;
      ++(isErased ? sum.erased : isFollowed ? sum.followed : isDamaged ? sum.damaged : sum.tooMany);
      if (!isErased && sum.linesNotRecorded.size() < kMostLinesNamed) sum.linesNotRecorded.push_back(lines[i]);
    }
  }
  for (const std::string& purpose : response.undeclared) {
    if (sum.undeclared.size() < kMostPurposesNamed) sum.undeclared.insert(purpose);
  }
  sum.isUnnamed |= response.isUnnamed;
  sum.number = std::max(sum.number, response.number);
  const bool isKnown = std::find(sum.openings.begin(), sum.openings.end(), response.opening) != sum.openings.end();
  if (!isKnown && sum.openings.size() < 2) sum.openings.push_back(response.opening);
}

// Has pieces made one after the other. A registry that is slow does not finish a large one in time, so pieces get
// smaller when one fails, down to one change, and larger again when many have worked.
class Sender {
 public:
  Sender(std::string socket, const ConsentOptions& options) : socket_(std::move(socket)), options_(options) {}

  // How many of the piece were made, the first ones, is added to `done`, also when it fails.
  absl::Status Send(const Piece& piece, Sum& sum, size_t& done) {
    int attempt = 1;
    for (size_t first = 0; first < piece.changes.size();) {
      const size_t end = std::min(piece.changes.size(), first + most_);
      const std::vector<Change> changes(piece.changes.begin() + first, piece.changes.begin() + end);
      const auto answer = admin::Ask<ChangeUsersCommand>(socket_, {changes, options_.who.keyspace});
      if (answer.ok()) {
        if (answer->response.outcomes.size() != changes.size()) {
          return absl::InternalError("the agent's answer is not about the changes that it was asked for");
        }
        Add(absl::MakeConstSpan(piece.lines).subspan(first, changes.size()), answer->response, sum);
        done += changes.size();
        first = end;
        attempt = 1;
        if (++worked_ % kWorkedToGrow == 0) most_ = std::min(2 * most_, ChangeUsersCommand::kMostChanges);
        continue;
      }
      if (!absl::IsUnavailable(answer.status())) return answer.status();
      worked_ = 0;
      if (changes.size() > 1) {
        most_ = changes.size() / 2;
        continue;
      }
      if (++attempt > kMostAttempts) return answer.status();
      std::this_thread::sleep_for(kBetweenAttempts);
    }
    return absl::OkStatus();
  }

 private:
  const std::string socket_;
  const ConsentOptions& options_;
  size_t most_ = ChangeUsersCommand::kMostChanges;
  size_t worked_ = 0;  // in a row
};

// kCancelled says how far it came.
absl::Status SendAll(const std::string& socket, const ConsentOptions& options, size_t count, Sum& sum) {
  ASSIGN_OR_RETURN(ConsentsFile file, ConsentsFile::Open(options.file, options.who.encoding));
  Progress progress(count, "lines");
  Sender sender(socket, options);
  Piece piece;
  size_t bytes = 0, done = 0;
  for (bool isOver = false; !isOver;) {
    absl::StatusOr<std::optional<Change>> change = file.Next();
    absl::Status status = change.status();  // it was well when it was checked: somebody writes to the file
    isOver = status.ok() && !change->has_value();
    const bool isFull =
        piece.changes.size() == ChangeUsersCommand::kMostChanges || bytes > kMostBytesOfAPiece || isOver;
    if (status.ok() && isFull && !piece.changes.empty()) {
      status = sender.Send(piece, sum, done);
      progress.Show(std::min(count, done));
      piece = {};
      bytes = 0;
    }
    if (!status.ok()) {
      return absl::CancelledError(StrCat("stopped after ", done, " of ", count, " changes: ", ToStd(status.message()),
                                         "; run the same command again to go on"));
    }
    if (isOver) break;
    bytes += SizeOf(**change);
    piece.changes.push_back(**std::move(change));
    piece.lines.push_back(file.line());
  }
  return absl::OkStatus();
}

void Print(const Sum& sum) {
  std::cout << sum.changed << " change(s) recorded; " << sum.unchanged << " line(s) were so before; " << sum.erased
            << " line(s) are of users who were erased\n";
  if (sum.notRecorded() == 0) return;
  std::cout << sum.notRecorded() << " line(s) are not recorded:";
  for (const size_t line : sum.linesNotRecorded) std::cout << " line " << line;
  std::cout << (sum.notRecorded() > sum.linesNotRecorded.size() ? " and more\n" : "\n");
  if (sum.tooMany > 0) std::cout << "of " << sum.tooMany << " the user has 64 consents already\n";
  if (sum.followed > 0) std::cout << "of " << sum.followed << " the user's consents come from a topic\n";
  if (sum.damaged > 0) std::cout << "of " << sum.damaged << " what is stored of the user cannot be read\n";
}

void PrintJson(const Sum& sum, const nlohmann::json& spread) {
  nlohmann::json json = {{"changed", sum.changed}, {"unchanged", sum.unchanged}, {"erased", sum.erased},
                         {"tooMany", sum.tooMany}, {"followed", sum.followed},   {"damaged", sum.damaged}};
  if (sum.notRecorded() > 0) json["linesNotRecorded"] = sum.linesNotRecorded;
  if (!spread.is_null()) json["spread"] = spread;
  std::cout << json.dump(2) << "\n";
}

}  // namespace

int RunConsentImport(const CommonOptions& common, const ConsentOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const absl::StatusOr<size_t> count = CheckAll(options);
  if (!count.ok()) return Fail(kCommand, StrCat(ToStd(count.status().message()), "; nothing was changed"));
  Sum sum;
  if (const absl::Status sent = SendAll(*socket, options, *count, sum); !sent.ok()) return Fail(kCommand, sent);
  WarnOfUndeclared(kCommand, {sum.undeclared.begin(), sum.undeclared.end()});
  if (sum.isUnnamed) WarnOfUnnamed(kCommand, options.who.keyspace);
  const Awaited awaited = AwaitChanges(kCommand, *socket, sum.number, sum.openings, options.who.waitSeconds);
  if (common.json) {
    PrintJson(sum, awaited.spread);
  } else {
    Print(sum);
  }
  if (sum.notRecorded() > 0) return Fail(kCommand, "not all of it could be recorded");
  return awaited.status;
}

}  // namespace kveil::cli
