// A bundle of policies of any text, as a server may send one. It is taken apart before a signature is verified.
#include "bundle/bundle_file.h"

#include <string>

#include "base/text.h"
#include "fuzz.h"

namespace kveil::fuzz {

void Run(Bytes input) {
  const auto file = bundle::ParseBundle(AsText(input), "fuzz.bundle");
  if (!file.ok()) {
    const std::string_view message = ToStd(file.status().message());
    Check(absl::IsInvalidArgument(file.status()), "a bundle that is refused is the file's fault");
    Check(message.starts_with("fuzz.bundle: "), "an error names its file");
    Check(message.find('\n') == std::string_view::npos, "an error is one line");
    return;
  }
  Check(!file->manifest.empty() && !file->signature.empty() && !file->files.empty(), "a bundle has all of its parts");
  size_t size = file->manifest.size() + file->signature.size();
  for (const auto& [name, bytes] : file->files) size += bytes.size();
  Check(size <= input.size(), "a bundle is no longer than its text");
  Check(file->files.size() <= bundle::kMostFiles, "a bundle has no more files than a manifest");
  const auto verified = bundle::Verify(*file, {}, "fuzz.bundle");
  Check(!verified.ok(), "nothing is accepted without a key");
}

}  // namespace kveil::fuzz
