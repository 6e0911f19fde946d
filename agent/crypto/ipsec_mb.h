// libipsec-mb's AES-256-GCM, bound once to the fastest code for this CPU. Private to this folder.
#pragma once

#ifdef KVEIL_HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>

namespace kveil::crypto {

struct IpsecMb {
  aes_gcm_pre_t precompute;
  aes_gcm_enc_dec_t encrypt;
  aes_gcm_enc_dec_t decrypt;
  // Of an expanded key: whether the powers of the hash key end it, the lowest last, and all of them may be used. Other
  // code uses few powers, which follow the round keys.
  bool powersAreLast;
};

// nullptr when this CPU lacks AES-NI or PCLMULQDQ: the library would then fall back to code that is slow and not
// constant in time.
const IpsecMb* FindIpsecMb();

}  // namespace kveil::crypto

#endif
