// How a topic id is printed.
#include "kafka/topic_id.h"

#include "absl/strings/escaping.h"

namespace kveil::kafka {

std::string TopicId::Text() const {
  std::string text = absl::WebSafeBase64Escape(std::string(bytes.begin(), bytes.end()));
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

}  // namespace kveil::kafka
