#include "http/form.h"

#include "absl/strings/ascii.h"

namespace kveil::http {

void AppendFormField(crypto::SecretText& form, std::string_view name, std::string_view value) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (!form.empty()) form.push_back('&');
  crypto::Append(form, name);
  form.push_back('=');
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || std::string_view("-_.~").find(c) != std::string_view::npos) {
      form.push_back(c);
    } else {
      form.push_back('%');
      form.push_back(kDigits[byte >> 4]);
      form.push_back(kDigits[byte & 15]);
    }
  }
}

}  // namespace kveil::http
