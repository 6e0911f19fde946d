#include "tls/file_state.h"

#include <sys/stat.h>

#include "base/text.h"

namespace kveil::tls {

std::string StateOfFile(const std::string& path) {
  struct stat info;
  if (path.empty() || ::stat(path.c_str(), &info) != 0) return "-;";
  return StrCat(info.st_dev, " ", info.st_ino, " ", info.st_size, " ", info.st_mtim.tv_sec, " ", info.st_mtim.tv_nsec,
                " ", info.st_ctim.tv_sec, " ", info.st_ctim.tv_nsec, ";");
}

}  // namespace kveil::tls
