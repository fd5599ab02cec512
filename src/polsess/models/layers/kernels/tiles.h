// Products of bfloat16 in tiles, where the processor has them (AMX): a tile has 16 rows of 64 bytes. The compiler does
// not know what tiles read and write, so what uses them must be a function of its own.

#pragma once

#include <cstdint>

#include "vectors.h"

#if defined(__AMX_BF16__) && defined(__AVX512DQ__) && defined(__linux__)
#define POLSESS_TILES
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct TileSetting {  // of this thread
  TileSetting() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int tile = 0; tile < 8; ++tile) shape.bytes[tile] = 64, shape.rows[tile] = 16;
    asm volatile("ldtilecfg %0" ::"m"(shape));
  }
  ~TileSetting() { _tile_release(); }
  TileSetting(const TileSetting&) = delete;
};

}  // namespace
#endif

// Whether this processor has tiles and the system lets this process use them.
extern "C" int64_t allow_tiles() {
#if defined(POLSESS_TILES)
  constexpr long kAskFor = 0x1023, kTileData = 18;  // of Linux: ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kAskFor, kTileData) == 0;
#else
  return 0;
#endif
}
