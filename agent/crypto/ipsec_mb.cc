// Chooses libipsec-mb's code path for this CPU.
#include "crypto/ipsec_mb.h"

#ifdef KVEIL_HAVE_IPSEC_MB

namespace kveil::crypto {
namespace {

const IpsecMb* Bind() {
  constexpr uint64_t kNeeded = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
  // The manager is only the table of functions here, and lives as long as the process.
  IMB_MGR* manager = alloc_mb_mgr(0);
  if (manager == nullptr) return nullptr;
  IMB_ARCH arch = IMB_ARCH_NONE;
  if ((manager->features & kNeeded) == kNeeded) init_mb_mgr_auto(manager, &arch);
  static IpsecMb functions;
  const bool usable = arch >= IMB_ARCH_SSE;  // below it: none, and the emulation without AES-NI
  const bool isVaes = arch == IMB_ARCH_AVX512 && (manager->features & IMB_FEATURE_VAES) != 0;
  if (usable) functions = {manager->gcm256_pre, manager->gcm256_enc, manager->gcm256_dec, isVaes};
  free_mb_mgr(manager);
  return usable ? &functions : nullptr;
}

}  // namespace

const IpsecMb* FindIpsecMb() {
  static const IpsecMb* const functions = Bind();
  return functions;
}

}  // namespace kveil::crypto

#endif
