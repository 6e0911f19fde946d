// How a topic id is printed.
#include "kafka/topic_id.h"

#include <string_view>

#include "absl/strings/escaping.h"

namespace kveil::kafka {

std::string TopicId::Text() const {
  std::string text =
      absl::WebSafeBase64Escape(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

}  // namespace kveil::kafka
