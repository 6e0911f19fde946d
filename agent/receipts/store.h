// The folder of a node's receipts:
//
//   key.pem         the private key, 0600
//   00000001.json   the signed bytes of the first receipt
//   00000001.sig    their Ed25519 signature, 64 bytes
//   head            the number and SHA-256 of the last receipt, signed as well. Number 0 when there is none yet
//   lock            held by whoever appends
//
// Each receipt has its number and the SHA-256 of the one before among its signed bytes. So a receipt that was changed,
// taken out or put in is found, and with `head` one that was cut off the end. The head is there before the key: a
// folder with a key and no head has lost it. Whoever has the private key can still write the whole folder anew: keep a
// copy of the last receipt elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "evidence/signing_key.h"
#include "receipts/receipt.h"

namespace kveil::receipts {

// Any thread, and any number of processes. Errors name the file. kFailedPrecondition: what is there is not what was
// written, or not safe to use.
//
// Whoever reads takes no lock, and holds up nobody: each file is there whole or not at all, and none is changed while
// the head names it.
class Store {
 public:
  // How long Prepare and Append wait for another process that appends.
  static constexpr std::chrono::seconds kLockPatience{5};

  explicit Store(std::string folder, std::chrono::milliseconds lockPatience = kLockPatience)
      : folder_(std::move(folder)), lockPatience_(lockPatience) {}

  const std::string& folder() const { return folder_; }

  // Makes the folder, the head and the key if there are none. kUnavailable: another process holds the lock.
  absl::Status Prepare() const;
  // Signs a receipt and keeps it. Returns its number. It is on disk then. kUnavailable: another process holds the lock,
  // or the disk is full.
  absl::StatusOr<uint64_t> Append(const Receipt& receipt) const;

  struct Stored {
    std::string text;
    std::string signature;
  };
  // kNotFound: there is no such receipt.
  absl::StatusOr<Stored> Read(uint64_t number) const;
  // Whom receipt `number` says to have been erased, if `key` has signed it, whatever has become of the others.
  // kFailedPrecondition: it has not, or it is another receipt.
  absl::StatusOr<ErasuresTold> ReadErasures(const evidence::SigningKey& key, uint64_t number) const;
  // The number of the last receipt, 0 when there is none: as the head says, which is not checked here, or what lies
  // there.
  absl::StatusOr<uint64_t> ReadCount() const;
  // The numbers of the receipts that lie there, in order. None when the folder cannot be read.
  std::vector<uint64_t> ReadNumbers() const;
  // In PEM. kNotFound: no key was made yet.
  absl::StatusOr<std::string> PublicPem() const;

  struct Verification {
    uint64_t count = 0;               // of the receipts that are in order, from the first on
    std::string last;                 // the SHA-256 of the last of these
    std::vector<std::string> faults;  // the first kMostFaults
  };
  static constexpr size_t kMostFaults = 20;
  // Checks all of them. One that is appended meanwhile is checked, too.
  absl::StatusOr<Verification> VerifyAll(const evidence::SigningKey& key) const;
  // The signature of one.
  absl::Status VerifyOne(const evidence::SigningKey& key, uint64_t number) const;

 private:
  struct Head {
    uint64_t number = 0;
    std::string hash;
  };
  std::string PathOf(uint64_t number, std::string_view ending) const;
  bool Has(uint64_t number) const;
  absl::Status Verify(const evidence::SigningKey& key, uint64_t number, const Stored& stored) const;
  absl::Status PrepareLocked() const;
  // Without `key`, its signature is not checked. kNotFound: there is none.
  absl::StatusOr<Head> ReadHead(const evidence::SigningKey* key) const;
  absl::Status WriteHead(const evidence::SigningKey& key, const Head& head) const;
  // What the head is to be, after a crash between a receipt and its head.
  absl::StatusOr<Head> FindHead(const evidence::SigningKey& key) const;
  // Whether receipt `head.number + 1` is there and in order. If so, it becomes the head.
  absl::Status Advance(const evidence::SigningKey& key, Head& head) const;
  bool HasFilesBeyond(uint64_t number) const;

  const std::string folder_;
  const std::chrono::milliseconds lockPatience_;
};

}  // namespace kveil::receipts
