// `kveil consent` and `kveil user`: change and read what is known of users.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"
#include "admin/spread.h"

namespace kveil::admin {

struct ChangeUsersCommand {
  static constexpr std::string_view kName = "changeUsers";
  static constexpr Access kAccess = Access::kErase;
  static constexpr size_t kMostChanges = 256;

  static constexpr std::string_view kGrant = "grant";
  static constexpr std::string_view kWithdraw = "withdraw";
  static constexpr std::string_view kSet = "set";
  static constexpr std::string_view kRemove = "remove";
  struct Change {
    std::string user;                  // the id as records spell it
    std::string action;                // one of the four
    std::string name;                  // of the purpose (grant, withdraw) or the attribute (set, remove)
    std::optional<std::string> until;  // grant: RFC 3339
    std::optional<std::string> value;  // set
    void Fields(auto& field) {
      field("user", user);
      field("action", action);
      field("name", name);
      field("until", until);
      field("value", value);
    }
  };
  struct Request {
    std::vector<Change> changes;  // at most kMostChanges, made in their order
    // Without it: grant and set, in every keyspace that the policies name; withdraw and remove, in every one in which
    // anything was ever known of any user.
    std::optional<std::string> keyspace;
    void Fields(auto& field) {
      field("changes", changes);
      field("keyspace", keyspace);
    }
  };

  static constexpr std::string_view kChanged = "changed";
  static constexpr std::string_view kUnchanged = "unchanged";  // it was so before
  static constexpr std::string_view kErased = "erased";        // the user was erased in each of the keyspaces
  static constexpr std::string_view kTooMany = "tooMany";      // the user has the most that there may be
  static constexpr std::string_view kFollowed = "followed";    // the user's consents come from a topic
  static constexpr std::string_view kDamaged = "damaged";      // what is stored of the user cannot be read
  struct Response {
    std::vector<std::string> outcomes;    // of each change: one of the six
    std::vector<std::string> keyspaces;   // that were asked, of the last change
    uint64_t number = 0;                  // of the last change, now or before; 0: nothing was ever known
    std::string opening;                  // as of EraseManyCommand
    std::vector<std::string> undeclared;  // purposes that were granted and that no policy of this agent declares
    bool isKnown = true;                  // something is or was known of one of the users, or one was erased
    bool isUnnamed = false;               // no policy of this agent names the keyspace that was asked for
    void Fields(auto& field) {
      field("outcomes", outcomes);
      field("keyspaces", keyspaces);
      field("number", number);
      field("opening", opening);
      field("undeclared", undeclared);
      field("known", isKnown);
      field("unnamed", isUnnamed);
    }
  };
};

// Waits until no agent uses what was known before a change.
struct AwaitChangesCommand {
  static constexpr std::string_view kName = "awaitChanges";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    uint64_t number = 0;
    std::optional<uint64_t> waitSeconds;  // as of EraseCommand
    void Fields(auto& field) {
      field("number", number);
      field("waitSeconds", waitSeconds);
    }
  };
  struct Response {
    Spread spread;
    std::optional<std::string> opening;  // none when it is not known
    void Fields(auto& field) {
      field("spread", spread);
      field("opening", opening);
    }
  };
};

struct ReadUserCommand {
  static constexpr std::string_view kName = "readUser";
  static constexpr Access kAccess = Access::kErase;  // what is known of a person is not for everybody

  struct Request {
    std::string user;
    std::optional<std::string> keyspace;  // without it, every one in which something is known
    void Fields(auto& field) {
      field("user", user);
      field("keyspace", keyspace);
    }
  };
  struct Consent {
    std::string purpose;
    std::optional<std::string> until;  // RFC 3339, UTC
    bool holds = false;                // now
    void Fields(auto& field) {
      field("purpose", purpose);
      field("until", until);
      field("holds", holds);
    }
  };
  struct Attribute {
    std::string name;
    std::string value;
    void Fields(auto& field) {
      field("name", name);
      field("value", value);
    }
  };
  struct Granted {
    std::string purpose = "?";
    std::optional<std::string> until;  // RFC 3339, UTC
    void Fields(auto& field) {
      field("purpose", purpose);
      field("until", until);
    }
  };
  struct PastChange {
    std::string time = "?";    // RFC 3339, UTC
    uint64_t uid = 0;          // who asked, of the operating system at the agent
    bool isFromTopic = false;  // a record of a topic, then nobody has asked
    std::string agent = "?";
    std::vector<Granted> granted;
    std::vector<std::string> withdrawn;
    void Fields(auto& field) {
      field("time", time);
      field("uid", uid);
      field("topic", isFromTopic);
      field("agent", agent);
      field("granted", granted);
      field("withdrawn", withdrawn);
    }
  };
  struct Known {
    std::string keyspace;
    std::vector<Consent> consents;
    std::vector<Attribute> attributes;
    bool isDamaged = false;  // and counts as nothing
    // The consents come from a topic. If they do not count now, nothing says that no withdrawal is missing.
    bool isFromTopic = false;
    bool isCurrent = true;
    bool isScattered = false;           // the user has records in several partitions, and therefore no consent
    std::optional<std::string> erased;  // when the user was erased there
    std::vector<PastChange> history;    // of consents, the oldest first
    void Fields(auto& field) {
      field("keyspace", keyspace);
      field("consents", consents);
      field("attributes", attributes);
      field("damaged", isDamaged);
      field("topic", isFromTopic);
      field("current", isCurrent);
      field("scattered", isScattered);
      field("erased", erased);
      field("history", history);
    }
  };
  struct Response {
    std::vector<Known> known;  // by keyspace; empty: nothing is known of the user
    void Fields(auto& field) { field("known", known); }
  };
};

}  // namespace kveil::admin
