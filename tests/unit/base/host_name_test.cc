#include "base/host_name.h"

#include <gtest/gtest.h>

#include <string>

namespace kveil {
namespace {

TEST(HostNameTest, IsWhatDnsAndCertificatesMayHold) {
  const std::string label(63, 'a');
  for (const std::string& name : {std::string("b"), std::string("b1.example"), std::string("B-1.kafka_2.Example"),
                                  std::string("7.b"), std::string("1a2b"), std::string("xn--bcher-kva.example"),
                                  label + "." + label + "." + label + "." + std::string(61, 'b')}) {
    EXPECT_TRUE(IsHostName(name)) << name;
  }
}

TEST(HostNameTest, IsNothingElse) {
  const std::string label(63, 'a');
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".example"), std::string("b1.example."),
        std::string("b1..example"), std::string("-b.example"), std::string("b-.example"), std::string("*.example"),
        std::string("b 1"), std::string("b1.example\0.other", 17), std::string("b1\n"),
        std::string("b\xc3\xbc"
                    "cher.example"),
        std::string("10.0.0.1"), std::string("127.1"), std::string("7"), std::string("::1"), std::string("b1/x"),
        label + "a", label + "." + label + "." + label + "." + std::string(62, 'b')}) {
    EXPECT_FALSE(IsHostName(name)) << name;
  }
}

}  // namespace
}  // namespace kveil
