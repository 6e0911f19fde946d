// Click records as a web shop writes them: JSON of some 450 bytes, or of some 150. Field names, paths and user agents
// come again and again; sessions, times and addresses do not.
#pragma once

#include <array>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace kveil {

class Clicks {
 public:
  static constexpr unsigned kUsers = 1000;
  explicit Clicks(bool areLong) : areLong_(areLong) {}

  std::string Next() { return areLong_ ? Long() : Short(); }
  std::vector<std::string> Next(size_t count) {
    std::vector<std::string> values;
    for (size_t i = 0; i < count; ++i) values.push_back(Next());
    return values;
  }

 private:
  std::string Short() {
    return R"({"userid": )" + std::to_string(dice_() % kUsers) + R"(, "ip": ")" + Address() + R"(", "time": ")" +
           Time() + R"(", "request": "GET )" + Path() + R"(", "status": 200, "bytes": )" +
           std::to_string(dice_() % 60'000) + "}";
  }
  std::string Long() {
    return R"({"userid":"user-)" + std::to_string(dice_() % kUsers) + R"(","event":")" + Of(kEvents) + R"(","time":")" +
           Time() + R"(","session":")" + Uuid() + R"(","url":"https://shop.example.com)" + Path() +
           R"(","referrer":"https://)" + Of(kReferrers) + R"(","ip":")" + Address() + R"(","country":")" +
           Of(kCountries) + R"(","user_agent":")" + Agent() + R"(","screen":")" + Of(kScreens) + R"(","duration_ms":)" +
           std::to_string(dice_() % 9000) + R"(,"cart_items":)" + std::to_string(dice_() % 6) +
           R"(,"experiment":null})";
  }

  template <size_t N>
  const char* Of(const std::array<const char*, N>& texts) {
    return texts[dice_() % N];
  }
  template <typename... Arguments>
  static std::string Print(const char* format, Arguments... arguments) {
    std::array<char, 80> text;
    std::snprintf(text.data(), text.size(), format, arguments...);
    return text.data();
  }
  std::string Time() {
    ms_ += dice_() % 40;
    return Print("2026-03-14T%02u:%02u:%02u.%03uZ", ms_ / 3'600'000 % 24, ms_ / 60'000 % 60, ms_ / 1000 % 60,
                 ms_ % 1000);
  }
  std::string Address() {
    const unsigned number = dice_();
    return Print("%u.%u.%u.%u", number >> 24, number >> 16 & 255, number >> 8 & 255, number & 255);
  }
  std::string Uuid() {
    const unsigned first = dice_(), second = dice_(), third = dice_(), fourth = dice_();
    return Print("%08x-%04x-4%03x-%04x-%04x%08x", first, second >> 16, second & 0xfff, third >> 16, third & 0xffff,
                 fourth);
  }
  std::string Path() {
    return std::string("/") + Of(kCategories) + "/" + Of(kProducts) + "-" + std::to_string(dice_() % 5000);
  }
  std::string Agent() {
    const unsigned version = 100 + dice_() % 30;
    return std::string("Mozilla/5.0 (") + Of(kSystems) + ") AppleWebKit/537.36 (KHTML, like Gecko) Chrome/" +
           std::to_string(version) + ".0.0.0 Safari/537.36";
  }

  static constexpr std::array kEvents{"page_view", "page_view", "page_view", "add_to_cart", "search", "purchase"};
  static constexpr std::array kCategories{"shoes", "jackets", "kitchen",     "garden",
                                          "books", "toys",    "electronics", "sale"};
  static constexpr std::array kProducts{"classic",     "ultra-light",     "waterproof",
                                        "family-pack", "limited-edition", "refill"};
  static constexpr std::array kReferrers{"www.google.com/", "www.bing.com/", "shop.example.com/",
                                         "news.example.org/deals"};
  static constexpr std::array kCountries{"DE", "FR", "US", "GB", "NL", "PL", "ES"};
  static constexpr std::array kScreens{"1920x1080", "390x844", "1536x864", "412x915", "2560x1440"};
  static constexpr std::array kSystems{"Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7",
                                       "X11; Linux x86_64", "Linux; Android 14; Pixel 8"};

  const bool areLong_;
  std::mt19937 dice_{7};
  unsigned ms_ = 30'000'000;
};

}  // namespace kveil
