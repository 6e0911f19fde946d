// What the requests ShareFetch and ShareAcknowledge have in common (KIP-932).
#pragma once

#include <cstdint>
#include <vector>

#include "kafka/messages/description.h"

namespace kveil::kafka {

struct AcknowledgementBatch {
  int64_t firstOffset = 0;
  int64_t lastOffset = 0;
  std::vector<int8_t> acknowledgeTypes;  // 0 gap, 1 accept, 2 release, 3 reject, 4 renew
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, AcknowledgementBatch>& m) {
  v.Field("firstOffset", m.firstOffset);
  v.Field("lastOffset", m.lastOffset);
  v.Field("acknowledgeTypes", m.acknowledgeTypes);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
