// `kveil reload`: reads the configuration file again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"

namespace kveil::admin {

struct ReloadCommand {
  static constexpr std::string_view kName = "reload";
  static constexpr Access kAccess = Access::kErase;  // who may change something

  struct Request {
    void Fields(auto&) {}
  };
  // JSON pointers of fields whose values in the file differ from those in force.
  struct Response {
    std::vector<std::string> applied;
    std::vector<std::string> needRestart;
    void Fields(auto& field) {
      field("applied", applied);
      field("needRestart", needRestart);
    }
  };
};

}  // namespace kveil::admin
