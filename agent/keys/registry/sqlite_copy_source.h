// A registry in an SQLite file that is moved elsewhere: nobody else has it open, and it says itself how far that is.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/bytes.h"
#include "keys/registry/copied_tables.h"
#include "keys/registry/registry.h"
#include "keys/registry/sqlite.h"

namespace kveil::keys {

// The format that a file has from when it begins to be moved. No version of kveil opens such a one as its registry.
inline constexpr int64_t kMovedFormat = 0x6d6f7665;  // "move"
// What to tell whoever wants to use one. kFailedPrecondition, or an error of the file.
absl::Status RefuseMoved(Database& database, const std::string& path);

// One open file, used by one thread. Errors are those of Database, and begin with the file's name.
class SqliteCopySource {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // As it is stored: these numbers stay.
  enum class State : int64_t {
    kInUse = 0,        // an agent may use it
    kCopying = 1,      // none may; the target is not whole yet
    kHandingOver = 2,  // the target is whole, and may be in use already
    kMoved = 3,        // the target is in use
  };

  // Brings it to this version's format, if nobody else has it open. kNotFound: there is none. kFailedPrecondition: it
  // is no registry, is empty, or another process has it open.
  static absl::StatusOr<std::unique_ptr<SqliteCopySource>> Open(const std::string& path, Deadline deadline);

  State state() const { return state_; }
  // Of the copy that was begun. Random bytes that the target has, too: so a target is known to be of this copy.
  const ByteBuffer& token() const { return token_; }
  const std::string& target() const { return target_; }  // for people
  // Whether its tables are those that this version makes: no file is migrated once its copy was begun.
  bool isOfThisVersion() const;

  // kInUse becomes kCopying, with a new token. No agent opens the file from now on.
  absl::Status Begin(const std::string& target);
  // kCopying becomes kInUse again. The token is of no use any more.
  absl::Status GiveUp();
  absl::Status SetState(State state, const std::string& target);
  // Has all that was written in the file itself, without a log beside it.
  absl::Status Settle();

  struct Identity {
    Registry::Identity identity;
    int64_t created = 0;
    int64_t lastNumber = 0;  // of erasures and changes
  };
  absl::StatusOr<Identity> ReadIdentity();
  absl::StatusOr<uint64_t> Count(const CopiedTable& table);

  // The rows behind a key, in the key's order; all of them without one.
  class Rows {
   public:
    Rows(const CopiedTable& table, Statement statement, std::vector<CopiedValue> place)
        : table_(table), statement_(std::move(statement)), place_(std::move(place)) {}
    // False at the end.
    absl::StatusOr<bool> Next(std::vector<CopiedValue>& row);

   private:
    friend class SqliteCopySource;
    void Bind();

    const CopiedTable& table_;
    Statement statement_;
    std::vector<CopiedValue> place_;  // the statement's parameters
  };
  absl::StatusOr<Rows> ReadAfter(const CopiedTable& table, std::vector<CopiedValue> place);

 private:
  explicit SqliteCopySource(std::string path) : path_(std::move(path)) {}
  absl::Status OpenAlone(Deadline deadline);
  absl::Status ReadMark();

  const std::string path_;
  std::unique_ptr<Database> database_;
  State state_ = State::kInUse;
  ByteBuffer token_;
  std::string target_;
  int64_t format_ = 0;  // before it was begun to be moved
};

}  // namespace kveil::keys
