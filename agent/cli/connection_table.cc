#include "cli/connection_table.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/text.h"
#include "cli/plain.h"
#include "cli/words.h"

namespace kveil::cli {
namespace {

using Connection = admin::ConnectionsCommand::Connection;
using Row = std::vector<std::string>;

// Characters of a column of text. What is longer ends with two dots.
constexpr size_t kWidestText = 40;
constexpr size_t kBetween = 2;

bool BeginsCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

size_t WidthOf(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), BeginsCharacter));
}

std::string Text(std::string_view text) {
  std::string plain = Plain(text);
  if (WidthOf(plain) <= kWidestText) return plain.empty() ? "-" : plain;
  size_t end = 0;
  for (size_t characters = 0; end < plain.size(); ++end) {
    if (BeginsCharacter(plain[end]) && ++characters > kWidestText - 2) break;
  }
  return plain.substr(0, end) + "..";
}

std::string Count(double perSecond) { return absl::StrFormat("%.*f", perSecond < 10 ? 1 : 0, perSecond); }

// Who it is, in columns.
constexpr std::array<std::string_view, 6> kWho = {"WORKLOAD", "UID", "CLUSTER", "BROKER", "CLIENT ID", "PRINCIPAL"};
Row Who(const Connection& connection) {
  return {Text(connection.workload),
          StrCat(connection.uid),
          Text(connection.cluster),
          Text(connection.broker),
          Text(connection.clientId.value_or("")),
          Text(connection.principal.value_or(connection.certificate.value_or("")))};
}

Row Heading(std::initializer_list<std::string_view> more) {
  Row heading(kWho.begin(), kWho.end());
  heading.insert(heading.end(), more.begin(), more.end());
  return heading;
}

std::vector<std::string> Lines(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], WidthOf(row[i]));
  }
  std::vector<std::string> lines;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string fill(widths[i] - WidthOf(row[i]), ' ');
      const bool isNumber = i >= kWho.size();
      StrAppend(&line, i == 0 ? "" : std::string(kBetween, ' '), isNumber ? fill : "", row[i], isNumber ? "" : fill);
    }
    lines.push_back(line.substr(0, line.find_last_not_of(' ') + 1));
  }
  return lines;
}

}  // namespace

std::string ShortSize(double bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 || bytes >= 100 ? 0 : 1, bytes, ToAbsl(kUnits[unit]));
}

std::vector<std::string> ConnectionTable(const std::vector<Connection>& connections) {
  std::vector<Row> rows = {Heading({"AGE", "TO BROKER", "TO CLIENT", "SEALED", "OPENED", "DENIED", "REFUSED"})};
  for (const Connection& connection : connections) {
    Row row = Who(connection);
    row.push_back(DurationText(connection.ageMilliseconds / 1000));
    row.push_back(ShortSize(static_cast<double>(connection.requestBytes)));
    row.push_back(ShortSize(static_cast<double>(connection.responseBytes)));
    for (const uint64_t count : {connection.sealed, connection.opened, connection.denied, connection.refused}) {
      row.push_back(StrCat(count));
    }
    rows.push_back(std::move(row));
  }
  return Lines(rows);
}

std::vector<std::optional<Rates>> RateMeter::Of(const std::vector<Connection>& now, Time time) {
  const double seconds = std::chrono::duration<double>(time - last_).count();
  std::vector<std::optional<Rates>> all;
  absl::flat_hash_map<uint64_t, Connection> seen;
  for (const Connection& connection : now) {
    const auto found = before_.find(connection.id);
    std::optional<Rates>& rates = all.emplace_back();
    seen.insert_or_assign(connection.id, connection);
    if (found == before_.end() || found->second.ageMilliseconds > connection.ageMilliseconds || seconds <= 0) continue;
    const auto rate = [&](uint64_t Connection::*field) {
      const uint64_t earlier = found->second.*field, later = connection.*field;
      return later > earlier ? static_cast<double>(later - earlier) / seconds : 0.0;
    };
    rates = {rate(&Connection::requestBytes), rate(&Connection::responseBytes), rate(&Connection::sealed),
             rate(&Connection::opened), rate(&Connection::denied)};
  }
  before_ = std::move(seen);
  last_ = time;
  return all;
}

std::vector<std::string> RateTable(const std::vector<Connection>& connections,
                                   const std::vector<std::optional<Rates>>& rates) {
  std::vector<size_t> order(connections.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto bytes = [&](size_t i) { return rates[i].has_value() ? rates[i]->bytes() : 0.0; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bytes(a) > bytes(b); });
  std::vector<Row> rows = {Heading({"TO BROKER/S", "TO CLIENT/S", "SEALED/S", "OPENED/S", "DENIED/S"})};
  for (const size_t i : order) {
    Row row = Who(connections[i]);
    if (const std::optional<Rates>& rate = rates[i]; rate.has_value()) {
      row.push_back(ShortSize(rate->requestBytes));
      row.push_back(ShortSize(rate->responseBytes));
      for (const double count : {rate->sealed, rate->opened, rate->denied}) row.push_back(Count(count));
    } else {
      row.resize(row.size() + 5, "-");
    }
    rows.push_back(std::move(row));
  }
  return Lines(rows);
}

}  // namespace kveil::cli
