// A target needs a source for its precompiled header to belong to.
#include "agent_headers.h"
