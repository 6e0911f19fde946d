// What a connection string may hold, and what it may not.
#include "config/postgres_text.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <algorithm>

namespace kveil::config {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

std::string ErrorOf(const std::string& text) { return std::string(ParsePostgres(text).status().message()); }

std::string ServersOf(const std::string& text) {
  const auto config = ParsePostgres(text);
  EXPECT_TRUE(config.ok()) << config.status();
  std::string servers;
  if (!config.ok()) return servers;
  for (const auto& server : config->servers) servers += server.host + "|" + server.address + "|" + server.port + " ";
  return servers;
}

TEST(PostgresTextTest, ServersAreTakenApart) {
  EXPECT_EQ(ServersOf("host=a dbname=d user=u"), "a||5432 ");
  EXPECT_EQ(ServersOf("host=a,b port=1,2 dbname=d user=u"), "a||1 b||2 ");
  EXPECT_EQ(ServersOf("host=a,b port=7 hostaddr=10.0.0.1,10.0.0.2 dbname=d user=u"), "a|10.0.0.1|7 b|10.0.0.2|7 ");
  EXPECT_EQ(ServersOf("postgresql://u@a:1,b/d"), "a||1 b||5432 ");
  EXPECT_EQ(ServersOf("host=/run/postgresql dbname=d user=u"), "/run/postgresql||5432 ");
}

TEST(PostgresTextTest, TheRestIsKept) {
  const auto config = ParsePostgres("host=a dbname=d user=u passfile=/p application_name='two words'");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->parameters,
              AllOf(Contains(Pair("dbname", "d")), Contains(Pair("passfile", "/p")),
                    Contains(Pair("application_name", "two words")), Not(Contains(Pair("host", "a")))));
}

TEST(PostgresTextTest, SecretsAreRefusedAndNotRepeated) {
  for (const char* text :
       {"host=a dbname=d user=u password=hunter2", "postgresql://u:hunter2@a/d",
        "host=a dbname=d user=u sslkey=/k sslpassword=hunter2", "postgresql://a/d?user=u&password=hunter2"}) {
    EXPECT_THAT(ErrorOf(text), AllOf(HasSubstr("passfile"), Not(HasSubstr("hunter2")))) << text;
  }
  for (const char* text : {"host=a dbname=d user=u password hunter2", "host=a passwort=hunter2", "hunter2",
                           "postgresql://u:hunter2@a:x:y/d", "host=a dbname=d user=u port=hunter2"}) {
    EXPECT_THAT(ErrorOf(text), AllOf(Not(testing::IsEmpty()), Not(HasSubstr("hunter2")))) << text;
  }
  EXPECT_THAT(ErrorOf("host=a passwort=x"), HasSubstr("unknown parameter \"passwort\""));
}

TEST(PostgresTextTest, TheServerMustProveWhoItIsUnlessItIsThisNode) {
  for (const char* text : {"host=a dbname=d user=u", "host=a dbname=d user=u sslmode=verify-full",
                           "host=localhost,a dbname=d user=u", "host=localhost hostaddr=10.0.0.1 dbname=d user=u"}) {
    const auto config = ParsePostgres(text);
    ASSERT_TRUE(config.ok()) << text << config.status();
    EXPECT_THAT(config->parameters, Contains(Pair("sslmode", "verify-full"))) << text;
  }
  for (const char* mode : {"disable", "prefer", "require", "verify-ca"}) {
    EXPECT_THAT(ErrorOf(std::string("host=a dbname=d user=u sslmode=") + mode), HasSubstr("verify-full")) << mode;
    EXPECT_TRUE(ParsePostgres(std::string("host=127.0.0.1,/run dbname=d user=u sslmode=") + mode).ok()) << mode;
  }
}

TEST(PostgresTextTest, WhatIsMissingOrWrongIsNamed) {
  EXPECT_THAT(ErrorOf("dbname=d user=u"), HasSubstr("expected the parameter host"));
  EXPECT_THAT(ErrorOf("host=a user=u"), HasSubstr("expected the parameter dbname"));
  EXPECT_THAT(ErrorOf("host=a dbname=d"), HasSubstr("expected the parameter user"));
  EXPECT_THAT(ErrorOf("host=a,,b dbname=d user=u"), HasSubstr("empty name"));
  EXPECT_THAT(ErrorOf("host=a,b port=1,2,3 dbname=d user=u"), HasSubstr("one port, or as many"));
  EXPECT_THAT(ErrorOf("host=a port=65536 dbname=d user=u"), HasSubstr("a port from 1 to 65535"));
  EXPECT_THAT(ErrorOf("host=a,b hostaddr=1.2.3.4 dbname=d user=u"), HasSubstr("as many hostaddr"));
  EXPECT_THAT(ErrorOf("host=a dbname=d user=u target_session_attrs=any"), HasSubstr("read-write"));
  EXPECT_THAT(ErrorOf("service=x"), HasSubstr("service is not supported"));
  setenv("PGPASSWORD", "hunter2", 1);
  EXPECT_THAT(ErrorOf("host=a dbname=d user=u"), AllOf(HasSubstr("PGPASSWORD"), Not(HasSubstr("hunter2"))));
  unsetenv("PGPASSWORD");
}

}  // namespace
}  // namespace kveil::config
