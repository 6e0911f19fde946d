// A manifest of signed policies of any text. An agent parses only what was signed, but that may be by a careless hand.
#include "bundle/manifest.h"

#include <string>

#include "base/text.h"
#include "fuzz.h"

namespace kveil::fuzz {

void Run(Bytes input) {
  const auto manifest = bundle::ParseManifest(AsText(input), "fuzz.manifest");
  if (!manifest.ok()) {
    const std::string_view message = ToStd(manifest.status().message());
    Check(absl::IsInvalidArgument(manifest.status()), "a manifest that is refused is the file's fault");
    Check(message.starts_with("fuzz.manifest"), "an error names its file");
    Check(message.find('\n') == std::string_view::npos, "an error is one line");
    return;
  }
  Check(bundle::Check(*manifest).ok(), "what is read passes the check of what is written");
  const auto again = bundle::ParseManifest(bundle::TextOf(*manifest), "again");
  Check(again.ok() && again->version == manifest->version && again->files == manifest->files &&
            again->Digest() == manifest->Digest(),
        "a manifest is read as it was written");
}

}  // namespace kveil::fuzz
