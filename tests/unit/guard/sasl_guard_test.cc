// Whose connection it is, by the broker's word: no name counts before the answer that accepts it.
#include "guard/apis/sasl_guard.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "interceptor_fixture.h"
#include "kafka/messages/sasl.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;
using kafka::ErrorCode;

const std::string kNul(1, '\0');

class SaslGuardTest : public InterceptorTest {
 protected:
  SaslGuardTest() {
    UseTopics(R"({"name": "clicks", "read": []})");
    handshake_ = std::make_unique<SaslHandshakeGuard>(Context(client_));
    authenticate_ = std::make_unique<SaslAuthenticateGuard>(Context(client_));
  }

  RequestResult Handshake(std::string_view mechanism, int16_t version = 1) {
    kafka::SaslHandshakeRequest request;
    request.mechanism = mechanism;
    return Request(*handshake_, version, request);
  }
  RequestResult Authenticate(std::string_view token, int16_t version = 2) {
    if (version == proxy::kBareToken) return BareToken(*authenticate_, AsBytes(token));
    kafka::SaslAuthenticateRequest request;
    request.authBytes = AsBytes(token);
    return Request(*authenticate_, version, request);
  }
  void Answer(const RequestResult& asked, std::string_view token, ErrorCode error = ErrorCode::kNone,
              int16_t version = 2) {
    ASSERT_TRUE(asked.forwarded());
    ASSERT_TRUE(asked.verdict.wantResponse);
    kafka::SaslAuthenticateResponse response;
    response.errorCode = error;
    response.authBytes = AsBytes(token);
    EXPECT_TRUE(Response(*authenticate_, version, response, asked.verdict.state.get()).forwarded());
  }
  // One exchange of as many tokens as answers; returns the name that is known after it.
  std::string NameAfter(std::string_view mechanism, std::vector<std::pair<std::string, std::string>> tokens) {
    *client_ = {};
    EXPECT_TRUE(Handshake(mechanism).forwarded());
    for (const auto& [token, answer] : tokens) {
      const RequestResult asked = Authenticate(token);
      EXPECT_EQ(client_->principal, "") << "known before the broker's answer";
      Answer(asked, answer);
    }
    return client_->principal;
  }
  static std::string Bearer(std::string_view claims) {
    const std::string jwt =
        StrCat(absl::WebSafeBase64Escape("{\"alg\":\"none\"}"), ".", absl::WebSafeBase64Escape(ToAbsl(claims)), ".");
    return StrCat("n,,\x01", "auth=Bearer ", jwt, "\x01\x01");
  }

  std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<SaslHandshakeGuard> handshake_;
  std::unique_ptr<SaslAuthenticateGuard> authenticate_;
};

TEST_F(SaslGuardTest, KnowsThePrincipalOfPlain) {
  EXPECT_EQ(NameAfter("PLAIN", {{StrCat(kNul, "alice", kNul, "secret"), ""}}), "alice");
  EXPECT_EQ(NameAfter("PLAIN", {{StrCat("alice", kNul, "alice", kNul, "secret"), ""}}), "alice");
  EXPECT_EQ(NameAfter("PLAIN", {{"nonsense", ""}}), "");
}

TEST_F(SaslGuardTest, KnowsThePrincipalOfScramAfterTheBrokersProof) {
  for (const char* mechanism : {"SCRAM-SHA-256", "SCRAM-SHA-512"}) {
    EXPECT_EQ(
        NameAfter(mechanism, {{"n,,n=a=2Cb=3Dc,r=nonce", "r=nonce2,s=salt,i=4096"}, {"c=biws,r=nonce2,p=x", "v=y"}}),
        "a,b=c");
    EXPECT_EQ(NameAfter(mechanism, {{"n,,n=alice,r=nonce", "r=nonce2,s=salt,i=4096"}}), "");
    EXPECT_EQ(NameAfter(mechanism, {{"n,,n=alice,r=nonce", "v=y"}}), "") << "a proof before the client's";
    EXPECT_EQ(NameAfter(mechanism, {{"n,,n=alice,r=nonce", "r=n"}, {"c=biws,r=nonce2,p=x", "e=invalid-proof"}}), "");
  }
}

TEST_F(SaslGuardTest, TakesADelegationTokensIdForNoPrincipal) {
  for (const char* spelled : {"true", "TRUE", "True"}) {
    EXPECT_EQ(NameAfter("SCRAM-SHA-256",
                        {{StrCat("n,,n=tokenId,r=nonce,tokenauth=", spelled), "r=n"}, {"c=biws,r=n,p=x", "v=y"}}),
              "")
        << spelled;
  }
}

TEST_F(SaslGuardTest, KnowsThePrincipalOfOauthBearer) {
  EXPECT_EQ(NameAfter("OAUTHBEARER", {{Bearer(R"({"sub": "alice", "exp": 1})"), ""}}), "alice");
  EXPECT_EQ(NameAfter("OAUTHBEARER", {{Bearer(R"({"sub": "alice"})"), R"({"status":"invalid_token"})"}}), "");
  EXPECT_EQ(NameAfter("OAUTHBEARER", {{Bearer("{\"user\":"), ""}}), "");
  const std::string twice = Bearer(R"({"sub": "admin"})") + "auth=Bearer x.y.z\x01\x01";
  EXPECT_EQ(NameAfter("OAUTHBEARER", {{twice, ""}}), "") << "only the broker knows which token counts";
  EXPECT_EQ(NameAfter("OAUTHBEARER", {{"n,,\x01"
                                       "auth=Bearer x\x01\x01",
                                       ""}}),
            "");
}

TEST_F(SaslGuardTest, KnowsNoPrincipalOfOtherMechanisms) {
  EXPECT_EQ(NameAfter("GSSAPI", {{StrCat(kNul, "alice", kNul, "secret"), ""}}), "");
}

TEST_F(SaslGuardTest, KnowsNoPrincipalWhenTheBrokerRefuses) {
  Handshake("PLAIN");
  Answer(Authenticate(StrCat(kNul, "alice", kNul, "wrong")), "", ErrorCode::kSaslAuthenticationFailed);
  EXPECT_EQ(client_->principal, "");
}

// The name of a later exchange must not be taken for that of the answer to an earlier one.
TEST_F(SaslGuardTest, TellsPipelinedExchangesApart) {
  Handshake("PLAIN");
  const RequestResult bert = Authenticate(StrCat(kNul, "bert", kNul, "right"));
  const RequestResult again = Authenticate(StrCat(kNul, "anna", kNul, "wrong"));
  Handshake("PLAIN");
  const RequestResult anna = Authenticate(StrCat(kNul, "anna", kNul, "wrong"));
  Answer(bert, "");
  EXPECT_EQ(client_->principal, "") << "the client is in the next exchange already";
  Answer(again, "");
  EXPECT_EQ(client_->principal, "");
  Answer(anna, "", ErrorCode::kSaslAuthenticationFailed);
  EXPECT_EQ(client_->principal, "");
}

TEST_F(SaslGuardTest, FollowsAReauthentication) {
  EXPECT_EQ(NameAfter("PLAIN", {{StrCat(kNul, "alice", kNul, "old"), ""}}), "alice");
  Handshake("PLAIN");
  const RequestResult asked = Authenticate(StrCat(kNul, "alice2", kNul, "new"));
  EXPECT_EQ(client_->principal, "") << "requests that are pipelined behind it are nobody's yet";
  Answer(asked, "");
  EXPECT_EQ(client_->principal, "alice2");
}

// Whom the broker then serves is not known: it may be another than before.
TEST_F(SaslGuardTest, ForgetsThePrincipalWhileTheClientAuthenticatesAgain) {
  EXPECT_EQ(NameAfter("PLAIN", {{StrCat(kNul, "alice", kNul, "old"), ""}}), "alice");
  Handshake("SCRAM-SHA-256");
  Answer(Authenticate("n,,n=bert,r=nonce"), "r=nonce2,s=salt,i=4096");
  EXPECT_EQ(client_->principal, "");
  Answer(Authenticate("c=biws,r=nonce2,p=x"), "v=y");
  EXPECT_EQ(client_->principal, "bert");
  Handshake("GSSAPI");
  Answer(Authenticate("token"), "answer");
  EXPECT_EQ(client_->principal, "") << "a mechanism of which no name is known";
  Handshake("PLAIN");
  Answer(Authenticate(StrCat(kNul, "alice", kNul, "new")), "");
  EXPECT_EQ(client_->principal, "alice");
  Handshake("SCRAM-SHA-256");
  Answer(Authenticate("n,,n=tokenId,r=nonce,tokenauth=true"), "r=n", ErrorCode::kSaslAuthenticationFailed);
  EXPECT_EQ(client_->principal, "") << "the broker has refused: of whom it goes by now, nothing is known";
}

TEST_F(SaslGuardTest, KnowsHowManyBareTokensFollowTheOldHandshake) {
  const std::vector<std::pair<const char*, int>> mechanisms = {
      {"PLAIN", 1}, {"OAUTHBEARER", 1}, {"SCRAM-SHA-256", 2}, {"SCRAM-SHA-512", 2}};
  for (const auto& [mechanism, tokens] : mechanisms) {
    EXPECT_EQ(Handshake(mechanism, 0).verdict.bareTokens, tokens) << mechanism;
    EXPECT_EQ(Handshake(mechanism, 1).verdict.bareTokens, 0) << mechanism;
  }
  const RequestResult unknown = Handshake("GSSAPI", 0);
  ASSERT_TRUE(unknown.closed());
  EXPECT_NE(unknown.verdict.reason.find("GSSAPI"), std::string::npos);
  EXPECT_TRUE(Handshake("GSSAPI", 1).forwarded());
}

// On a listener without SASL, or a connection that is authenticated, the broker refuses the handshake and goes on: what
// follows would be requests that nobody looks at.
TEST_F(SaslGuardTest, ClosesWhenTheBrokerRefusesTheOldHandshake) {
  RequestResult asked = Handshake("PLAIN", 0);
  ASSERT_TRUE(asked.verdict.wantResponse);
  kafka::SaslHandshakeResponse response;
  EXPECT_TRUE(Response(*handshake_, 0, response, asked.verdict.state.get()).forwarded());
  response.errorCode = ErrorCode::kIllegalSaslState;
  asked = Handshake("PLAIN", 0);
  EXPECT_TRUE(Response(*handshake_, 0, response, asked.verdict.state.get()).closed());
  EXPECT_FALSE(Handshake("PLAIN", 1).verdict.wantResponse) << "its tokens have headers";
}

TEST_F(SaslGuardTest, ReadsBareTokens) {
  Handshake("PLAIN", 0);
  const RequestResult asked = Authenticate(StrCat(kNul, "alice", kNul, "secret"), proxy::kBareToken);
  EXPECT_EQ(client_->principal, "");
  EXPECT_TRUE(BareAnswer(*authenticate_, {}, asked.verdict.state.get()).forwarded());
  EXPECT_EQ(client_->principal, "alice");
}

// It is looked into before anybody has said who the client is.
TEST_F(SaslGuardTest, ClosesOnATokenThatNoBrokerWouldTake) {
  Handshake("OAUTHBEARER");
  EXPECT_TRUE(Authenticate(Bearer(std::string(300 << 10, '.'))).forwarded());
  EXPECT_TRUE(Authenticate(std::string((512 << 10) + 1, '.')).closed());
  Handshake("OAUTHBEARER", 0);
  EXPECT_TRUE(Authenticate(std::string((512 << 10) + 1, '.'), proxy::kBareToken).closed());
}

// It would be kept for as long as the connection.
TEST_F(SaslGuardTest, ClosesOnANameThatNoUserHas) {
  const auto plain = [](size_t size) { return StrCat(kNul, std::string(size, 'n'), kNul, "secret"); };
  Handshake("PLAIN");
  EXPECT_TRUE(Authenticate(plain(1024)).forwarded());
  const auto expectClosed = [](const RequestResult& result) {
    ASSERT_TRUE(result.closed());
    EXPECT_NE(result.verdict.reason.find("name of 1025 bytes"), std::string::npos) << result.verdict.reason;
    EXPECT_EQ(result.verdict.reason.find("nnn"), std::string::npos) << result.verdict.reason;
  };
  Handshake("PLAIN");
  expectClosed(Authenticate(plain(1025)));
  Handshake("PLAIN", 0);
  expectClosed(Authenticate(plain(1025), proxy::kBareToken));
  Handshake("SCRAM-SHA-256");
  expectClosed(Authenticate(StrCat("n,,n=", std::string(1025, 'n'), ",r=nonce")));
  Handshake("OAUTHBEARER");
  expectClosed(Authenticate(Bearer(StrCat(R"({"sub": ")", std::string(1025, 'n'), "\"}"))));
  EXPECT_LE(SaslExchange(std::string(30'000, 'm')).mechanism().size(), 40u);
}

TEST_F(SaslGuardTest, ClosesOnWhatItCannotReadAndSaysNothingOfIt) {
  for (const RequestResult& result :
       {RequestBytes(*authenticate_, ApiKey::kSaslAuthenticate, 1, AsBytes("\x7f\xff\xff\xffsecret")),
        RequestBytes(*handshake_, ApiKey::kSaslHandshake, 1, AsBytes("\x7f\xffsecret")),
        RequestBytes(*authenticate_, ApiKey::kSaslAuthenticate, 3, AsBytes("secret"))}) {
    ASSERT_TRUE(result.closed());
    EXPECT_EQ(result.verdict.reason.find("secret"), std::string::npos) << result.verdict.reason;
  }
}

TEST_F(SaslGuardTest, TheNameThatIsClaimedCountsUntilItIsAnswered) {
  EXPECT_TRUE(Handshake("PLAIN").forwarded());
  EXPECT_LT(Authenticate(StrCat(kNul, "alice", kNul, "secret")).verdict.state->bytes(), 1000u);
  EXPECT_TRUE(Handshake("PLAIN").forwarded());
  const std::string longest(1000, 'a');
  EXPECT_GT(Authenticate(StrCat(kNul, longest, kNul, "secret")).verdict.state->bytes(), longest.size());
}

}  // namespace
}  // namespace kveil::guard
