#include "keys/registry/postgres_epoch_index.h"

#include <optional>
#include <vector>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_schema.h"

namespace kveil::keys {

absl::Status PostgresEpochIndex::Build(Deadline deadline) {
  const absl::StatusOr<bool> isBuilt = Advance(deadline);
  if (!isBuilt.ok() || *isBuilt) connection_.reset();
  if (!isBuilt.ok()) {
    return absl::UnavailableError(StrCat("the turn needs the index kveil.active_epochs, which cannot be built: ",
                                         ToStd(isBuilt.status().message())));
  }
  if (*isBuilt) return absl::OkStatus();
  return absl::AbortedError(StrCat("the turn ends when ", connector_.name(),
                                   " has built the index kveil.active_epochs, once, which takes some minutes in a "
                                   "large registry"));
}

absl::StatusOr<bool> PostgresEpochIndex::Advance(Deadline deadline) {
  if (connection_ == nullptr) {
    ASSIGN_OR_RETURN(connection_, connector_.Connect(deadline));
    connector_.NoteGood();
    RETURN_IF_ERROR(Send(Step::kLook, {postgres::kBeginIndex, postgres::kReadIndex}));
  }
  for (;;) {
    ASSIGN_OR_RETURN(const std::optional<std::vector<PostgresResult>> results, connection_->Finish(deadline));
    if (!results.has_value()) return false;
    switch (step_) {
      case Step::kLook: {
        const bool isThere = results->at(1).BooleanAt(0, 0);
        const bool isWhole = results->at(1).BooleanAt(0, 1);
        if (isWhole) return true;
        if (!results->at(0).BooleanAt(0, 0)) {  // another agent builds
          connection_.reset();
          return false;
        }
        // One that is not whole was left behind by a building that was ended.
        RETURN_IF_ERROR(isThere ? Send(Step::kDrop, {postgres::kDropIndex})
                                : Send(Step::kMake, {postgres::kMakeIndex}));
        break;
      }
      case Step::kDrop:
        RETURN_IF_ERROR(Send(Step::kMake, {postgres::kMakeIndex}));
        break;
      case Step::kMake:
        log::Info("keys.registry.indexed", {{"registry", connector_.name()}});
        return true;
    }
  }
}

absl::Status PostgresEpochIndex::Send(Step step, std::initializer_list<const char*> statements) {
  step_ = step;
  std::vector<PostgresStatement> texts;
  for (const char* const sql : statements) texts.push_back(PostgresStatement::Text(sql));
  return connection_->Send(texts);
}

}  // namespace kveil::keys
