// Writes messages that a guard has changed or made, as the whole frame that its verdict refers to.
#pragma once

#include "kafka/frame.h"
#include "kafka/messages/description.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// The request with another body. What `message` refers to must live as long as the output's arena.
template <class Message>
proxy::RequestVerdict RewriteRequest(const proxy::RequestFrame& request, const Message& message,
                                     proxy::FrameOutput& output) {
  output.writer.BeginFrame();
  output.writer.Append(request.frame.first(request.header.size));
  kafka::Encode(message, request.header.version, output.writer);
  output.writer.FinishFrame();
  return proxy::RequestVerdict::Rewrite();
}

// The agent's own response, in `version` of its body. The broker does not get the request.
template <class Message>
proxy::RequestVerdict AnswerRequest(const proxy::RequestFrame& request, const Message& message, int16_t version,
                                    proxy::FrameOutput& output) {
  output.writer.BeginFrame();
  kafka::WriteResponseHeader(request.header.apiKey, version, request.header.correlationId, output.writer);
  kafka::Encode(message, version, output.writer);
  output.writer.FinishFrame();
  return proxy::RequestVerdict::Answer();
}

// The response with another body. What `message` refers to must live as long as the output's arena.
template <class Message>
proxy::ResponseVerdict RewriteResponse(const proxy::ResponseFrame& response, const Message& message,
                                       proxy::FrameOutput& output) {
  output.writer.BeginFrame();
  output.writer.Append(response.header());
  kafka::Encode(message, response.version, output.writer);
  output.writer.FinishFrame();
  return proxy::ResponseVerdict::Rewrite();
}

}  // namespace kveil::guard
