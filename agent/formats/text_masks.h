// Finds the bytes of interest in a text, many at once: one bit per byte, the lowest first.
//
// All functions read whole vectors: up to 64 readable bytes must follow the text.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace kveil::formats {

// Two consecutive bytes, in any case.
struct BytePair {
  uint8_t first = 0;   // with the bit 0x20 set
  uint8_t second = 0;  // likewise
};

// The masks of 64 bytes.
struct BlockMasks {
  uint64_t pairs = 0;  // where the pair begins; ignores the bit 0x20, so "[" counts as "{" does
  uint64_t odd = 0;    // backslashes, and bytes beyond ASCII
  // With kStructure only:
  uint64_t quotes = 0;
  uint64_t brackets = 0;  // [ ] { }
};

#ifdef __SSE2__

inline __m128i Repeated(uint8_t byte) { return _mm_set1_epi8(static_cast<char>(byte)); }
inline uint64_t BitsAt(int place, __m128i vector) {
  return static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(vector))) << place;
}
inline __m128i LoadBytes(const uint8_t* text) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text)); }

template <bool kStructure>
inline BlockMasks MasksOf(const uint8_t* text, BytePair pair) {
  const __m128i caseBit = Repeated(0x20);
  __m128i pairs[4];
  __m128i odd[4];
  BlockMasks masks;
  // Not a loop: gcc would keep the arrays in memory.
  const auto look = [&](int i) __attribute__((always_inline)) {
    const __m128i bytes = LoadBytes(text + 16 * i);
    const __m128i lower = _mm_or_si128(bytes, caseBit);
    const __m128i next = _mm_or_si128(LoadBytes(text + 16 * i + 1), caseBit);
    pairs[i] = _mm_and_si128(_mm_cmpeq_epi8(lower, Repeated(pair.first)), _mm_cmpeq_epi8(next, Repeated(pair.second)));
    odd[i] = _mm_or_si128(_mm_cmpeq_epi8(bytes, Repeated('\\')), bytes);  // its highest bit is what counts
    if constexpr (kStructure) {
      masks.quotes |= BitsAt(16 * i, _mm_cmpeq_epi8(bytes, Repeated('"')));
      // With the bit 0x20, "[" is "{", and "]" is "}".
      const __m128i isBracket =
          _mm_or_si128(_mm_cmpeq_epi8(lower, Repeated('{')), _mm_cmpeq_epi8(lower, Repeated('}')));
      masks.brackets |= BitsAt(16 * i, isBracket);
    }
  };
  look(0), look(1), look(2), look(3);
  const __m128i any01 = _mm_or_si128(_mm_or_si128(pairs[0], odd[0]), _mm_or_si128(pairs[1], odd[1]));
  const __m128i any23 = _mm_or_si128(_mm_or_si128(pairs[2], odd[2]), _mm_or_si128(pairs[3], odd[3]));
  if (_mm_movemask_epi8(_mm_or_si128(any01, any23)) == 0) return masks;
  const auto take = [&](int i) __attribute__((always_inline)) {
    masks.pairs |= BitsAt(16 * i, pairs[i]);
    masks.odd |= BitsAt(16 * i, odd[i]);
  };
  take(0), take(1), take(2), take(3);
  return masks;
}

// Of 64 bytes, those that equal `byte`.
inline uint64_t MaskOf(const uint8_t* text, uint8_t byte) {
  uint64_t mask = 0;
  for (int i = 0; i < 4; ++i) mask |= BitsAt(16 * i, _mm_cmpeq_epi8(LoadBytes(text + 16 * i), Repeated(byte)));
  return mask;
}

// Of 16 bytes inside a JSON string, the quotes, backslashes and control characters.
inline uint32_t StringSpecials(const uint8_t* text) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
  const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
  const __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
  const __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))));
}

#else

template <bool kStructure>
inline BlockMasks MasksOf(const uint8_t* text, BytePair pair) {
  BlockMasks masks;
  for (int place = 0; place < 64; ++place) {
    const uint8_t byte = text[place];
    const uint8_t lower = byte | 0x20;
    const auto bit = [place](bool is) { return static_cast<uint64_t>(is) << place; };
    masks.pairs |= bit(lower == pair.first && (text[place + 1] | 0x20) == pair.second);
    masks.odd |= bit(byte == '\\' || byte >= 0x80);
    if constexpr (kStructure) {
      masks.quotes |= bit(byte == '"');
      masks.brackets |= bit(lower == '{' || lower == '}');
    }
  }
  return masks;
}

inline uint64_t MaskOf(const uint8_t* text, uint8_t byte) {
  uint64_t mask = 0;
  for (int place = 0; place < 64; ++place) mask |= static_cast<uint64_t>(text[place] == byte) << place;
  return mask;
}

inline uint32_t StringSpecials(const uint8_t* text) {
  uint32_t mask = 0;
  for (int place = 0; place < 16; ++place) {
    const bool special = text[place] < 0x20 || text[place] == '"' || text[place] == '\\';
    mask |= static_cast<uint32_t>(special) << place;
  }
  return mask;
}

#endif

// Bit i is the parity of the bits 0 to i.
inline uint64_t PrefixXor(uint64_t bits) {
  for (int shift = 1; shift < 64; shift *= 2) bits ^= bits << shift;
  return bits;
}

}  // namespace kveil::formats
