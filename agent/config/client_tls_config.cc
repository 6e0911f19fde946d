#include "config/client_tls_config.h"

#include "config/json_value.h"

namespace kveil::config {

ClientTlsConfig ReadClientTls(const JsonValue& value) {
  using Mode = ClientTlsConfig::Mode;
  return {.mode = value.OneOf<Mode>({{"refuse", Mode::kRefuse}, {"pass", Mode::kPass}})};
}

}  // namespace kveil::config
