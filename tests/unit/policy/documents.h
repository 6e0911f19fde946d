// Documents, good and bad, that the reader and the JSON Schema must judge alike.
#pragma once

#include <string>
#include <vector>

namespace kveil::policy {

struct Sample {
  std::string name;  // what the sample is about
  std::string text;
  std::string error;  // part of the reader's message; empty: the document is good
};

std::vector<Sample> PolicySamples();
std::vector<Sample> ConfigSamples();

}  // namespace kveil::policy
