// Strangers are told by their first bytes, so that the log says what the application really speaks.
#include "proxy/foreign_bytes.h"

#include <gtest/gtest.h>

namespace kveil::proxy {
namespace {

std::string Name(std::string_view bytes) { return NameForeignBytes(AsBytes(bytes)); }

TEST(ForeignBytesTest, AreNamedAfterTheirProtocol) {
  EXPECT_TRUE(Name(std::string_view("\x16\x03\x01\x02\x00", 5)).starts_with("TLS"));
  EXPECT_TRUE(Name("\x16\x03\x03xx").starts_with("TLS"));
  for (const char* request :
       {"GET /", "POST /x", "PUT /x", "HEAD /", "OPTIONS *", "DELETE /", "PATCH /", "CONNECT a:1", "PRI * HTTP/2.0"}) {
    EXPECT_EQ(Name(request), "HTTP") << request;
  }
  EXPECT_EQ(Name("SSH-2.0-x"), "SSH");
  EXPECT_EQ(Name("PROXY TCP4 1.2.3.4"), "the PROXY protocol, version 1");
  EXPECT_EQ(Name(std::string_view("\r\n\r\n\0\r\nQUIT\n", 12)), "the PROXY protocol, version 2");
  EXPECT_EQ(Name("PROX"), "the PROXY protocol, version 1") << "four bytes may be all that has come";
  EXPECT_EQ(Name("\r\n\r\n"), "the PROXY protocol, version 2");
}

TEST(ForeignBytesTest, AreNoKafkaFrameOtherwise) {
  EXPECT_EQ(Name("\xff\xff\xff\xff"), "not a Kafka frame");
  for (const char* near : {"GETS", "PROXIES", "\r\n\r\nHello"}) EXPECT_EQ(Name(near), "not a Kafka frame");
  for (const char* little : {"", "\x16", "G", "SSH"}) EXPECT_EQ(Name(little), "not a Kafka frame");
}

}  // namespace
}  // namespace kveil::proxy
