// The read-only web page beside the metrics: files of page/, which the program carries.
#pragma once

#include <string_view>

namespace kveil::observe {

struct PageFile {
  std::string_view path;  // of the URL
  std::string_view type;  // Content-Type
  std::string_view body;
};

// nullptr: the page has no such file.
const PageFile* FindPageFile(std::string_view path);

// What every answer of the page has beside its type: nothing is loaded from elsewhere, nothing in the page is a script
// but its file, no other page may frame it or read it, and nothing is kept. Lines of HTTP, each with its end.
extern const char kPageHeaders[];

// Whether a request may have the page: its Host is an address or localhost. Under any other name a foreign page may ask
// for it from within the browser of somebody who can reach it, with a name that leads here (DNS rebinding).
bool MayHavePage(std::string_view request);

}  // namespace kveil::observe
