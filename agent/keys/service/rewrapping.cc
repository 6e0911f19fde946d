#include "keys/service/rewrapping.h"

#include <utility>

namespace kveil::keys {

std::vector<absl::StatusOr<Rewrapped>> RewrapAndUnwrap(RootKey& root, absl::Span<const RootKey::WrappedKey> keys,
                                                       RootKey::Deadline deadline) {
  std::vector<absl::StatusOr<ByteBuffer>> wrapped = root.Rewrap(keys, deadline);
  std::vector<absl::StatusOr<Rewrapped>> answers;
  std::vector<RootKey::WrappedKey> made;
  std::vector<size_t> places;
  for (size_t i = 0; i < keys.size(); ++i) {
    answers.emplace_back(wrapped[i].ok() ? absl::UnavailableError("") : wrapped[i].status());
    if (!wrapped[i].ok()) continue;
    made.push_back({*wrapped[i], keys[i].context});
    places.push_back(i);
  }
  std::vector<absl::StatusOr<crypto::SecretKey>> unwrapped = root.UnwrapRewrapped(made, deadline);
  for (size_t i = 0; i < made.size(); ++i) {
    if (unwrapped[i].ok()) {
      answers[places[i]] = Rewrapped{*std::move(wrapped[places[i]]), *std::move(unwrapped[i])};
    } else {
      answers[places[i]] = unwrapped[i].status();
    }
  }
  return answers;
}

}  // namespace kveil::keys
