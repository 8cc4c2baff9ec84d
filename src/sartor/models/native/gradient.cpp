// The gradient of a linear layer's weight, dW = dY^T X, bf16 in and fp32 out, on AMX tiles.
//
// The sum runs over tokens, so both factors lie across it in memory: X has to be laid out in pairs of tokens and dY turned as
// well. Several threads lay out all of X before they begin, so that they wait for each other only twice; one thread does it for
// DEPTH tokens at a time. Each task turns its outputs of dY for so many tokens, which then stay in the second-level cache, and
// the tiles add what they find to the fp32 result. Tasks write to strips of dW of their own, and each adds up in the order of
// the tokens, so the result does not depend on the number of threads.

#include <cstddef>
#include <cstdint>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tiles.h"

namespace {

constexpr int64_t SIDE = 16, STEP = 32, TILE = SIDE * STEP;
constexpr int64_t DEPTH = 512;  // tokens that a task turns at once
constexpr int64_t MOST = 32;    // tiles of outputs in a task: half a megabyte
constexpr int64_t PARTS = 2;    // tasks for each thread: one that is held up leaves the rest to others

struct Free {
  void operator()(bf16* memory) const { std::free(memory); }
};
using Room = std::unique_ptr<bf16, Free>;

Room room(int64_t tiles) { return Room(static_cast<bf16*>(std::aligned_alloc(64, size_t(tiles * TILE) * sizeof(bf16)))); }

struct Factor {  // [tokens, columns], rows `step` apart
  const bf16* data;
  int64_t tokens, columns, step;
};

// 16 columns of 32 tokens as one tile: row i holds tokens 2i and 2i + 1 of each column, zeros beyond the end.
inline void lay(const Factor& x, int64_t token, int64_t column, bf16* to) {
  const int64_t left = x.columns - column;
  const __mmask16 real = left >= SIDE ? 0xffff : __mmask16((1u << left) - 1);
  const auto line = [&](int64_t t) {
    const __m256i found = t < x.tokens ? _mm256_maskz_loadu_epi16(real, x.data + t * x.step + column) : _mm256_setzero_si256();
    return _mm512_cvtepu16_epi32(found);
  };
  for (int64_t i = 0; i < SIDE; ++i) {
    const __m512i odd = _mm512_slli_epi32(line(token + 2 * i + 1), 16);
    _mm512_store_si512(to + i * STEP, _mm512_or_si512(line(token + 2 * i), odd));
  }
}

// The same turned: row i holds the 32 tokens of column i.
inline void lay_turned(const Factor& x, int64_t token, int64_t column, bf16* to) {
  alignas(64) bf16 pairs[TILE];
  lay(x, token, column, pairs);
  transpose16(reinterpret_cast<const uint32_t*>(pairs), SIDE, reinterpret_cast<uint32_t*>(to), SIDE);
}

// ROWS x COLUMNS tiles of C (+)= A B, `depth` tiles deep; rows of C `ldc` apart.
template <int ROWS, int COLUMNS>
inline void block(int64_t depth, const bf16* a, const bf16* b, float* c, int64_t ldc, bool add) {
  const size_t out = size_t(ldc) * sizeof(float);
  if (add) {
    _tile_loadd(0, c, out);
    if (COLUMNS > 1) _tile_loadd(1, c + SIDE, out);
    if (ROWS > 1) _tile_loadd(2, c + SIDE * ldc, out);
    if (ROWS > 1 && COLUMNS > 1) _tile_loadd(3, c + SIDE * ldc + SIDE, out);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const bf16 *below = a + depth * TILE, *beside = b + depth * TILE;
  for (int64_t k = 0; k < depth * TILE; k += TILE) {
    _tile_loadd(4, a + k, 64);
    _tile_loadd(6, b + k, 64);
    _tile_dpbf16ps(0, 4, 6);
    if (COLUMNS > 1) {
      _tile_loadd(7, beside + k, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (ROWS > 1) {
      _tile_loadd(5, below + k, 64);
      _tile_dpbf16ps(2, 5, 6);
      if (COLUMNS > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, out);
  if (COLUMNS > 1) _tile_stored(1, c + SIDE, out);
  if (ROWS > 1) _tile_stored(2, c + SIDE * ldc, out);
  if (ROWS > 1 && COLUMNS > 1) _tile_stored(3, c + SIDE * ldc + SIDE, out);
}

// The same for `rows` x `columns` numbers of C, fewer than two tiles in one direction or both.
void edge(int64_t depth, const bf16* a, const bf16* b, float* c, int64_t ldc, int64_t rows, int64_t columns, bool add) {
  alignas(64) float part[4 * SIDE * SIDE] = {};
  rows = std::min(rows, 2 * SIDE), columns = std::min(columns, 2 * SIDE);
  const auto each = [&](auto&& move) {
    for (int64_t i = 0; i < rows; ++i) move(c + i * ldc, part + i * 2 * SIDE, size_t(columns) * sizeof(float));
  };
  if (add) each([](float* line, float* own, size_t bytes) { std::memcpy(own, line, bytes); });
  if (rows > SIDE && columns > SIDE) block<2, 2>(depth, a, b, part, 2 * SIDE, add);
  else if (rows > SIDE) block<2, 1>(depth, a, b, part, 2 * SIDE, add);
  else if (columns > SIDE) block<1, 2>(depth, a, b, part, 2 * SIDE, add);
  else block<1, 1>(depth, a, b, part, 2 * SIDE, add);
  each([](float* line, float* own, size_t bytes) { std::memcpy(line, own, bytes); });
}

int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step; }

struct Product {
  Factor tall, wide;  // dy and x
  float* out;
};

// Adds what the steps [from, to) of 32 tokens give, with room for x of so many; `more`: to what is there.
void sum(const Product& product, bf16* right, int64_t from, int64_t to, bool more, int64_t threads) {
  const int64_t outs = product.tall.columns, ins = product.wide.columns, down = up(outs, SIDE), across = up(ins, SIDE), most = DEPTH / STEP;
  const int64_t share = up(up(down, threads > 1 ? PARTS * threads : 1), 2) * 2, rows = std::min(MOST, share), tasks = up(down, rows);
#pragma omp parallel num_threads(threads)
  {
    Tiles tiles;
    const Room left = room(rows * std::min(most, to - from));
#pragma omp for schedule(static)
    for (int64_t step = from; step < to; ++step) {
      const int64_t first = from + (step - from) / most * most, depth = std::min(most, to - first);
      bf16* place = right + ((first - from) * across + step - first) * TILE;
      for (int64_t j = 0; j < across; ++j) lay(product.wide, step * STEP, j * SIDE, place + j * depth * TILE);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t top = task * rows, end = std::min(down, top + rows);
      for (int64_t first = from; first < to; first += most) {
        const int64_t depth = std::min(most, to - first);
        for (int64_t k = 0; k < depth; ++k)
          for (int64_t i = top; i < end; ++i) lay_turned(product.tall, (first + k) * STEP, i * SIDE, left.get() + ((i - top) * depth + k) * TILE);
        for (int64_t j = 0; j < across; j += 2) {
          for (int64_t i = top; i < end; i += 2) {
            const bf16 *a = left.get() + (i - top) * depth * TILE, *b = right + ((first - from) * across + j * depth) * TILE;
            float* c = product.out + i * SIDE * ins + j * SIDE;
            const int64_t height = outs - i * SIDE, width = ins - j * SIDE;
            const bool add = more || first > from;
            if (height >= 2 * SIDE && width >= 2 * SIDE) block<2, 2>(depth, a, b, c, ins, add);
            else edge(depth, a, b, c, ins, height, width, add);
          }
        }
      }
    }
  }
}

}  // namespace

extern "C" {

// dy [tokens, outs] and x [tokens, ins], rows dy_step and x_step apart -> dw [outs, ins], added to what is there if `add`.
void sartor_weight_gradient(int64_t tokens, int64_t outs, int64_t ins, const void* dy, int64_t dy_step, const void* x, int64_t x_step, float* dw, int add) {
  const int64_t across = up(ins, SIDE), steps = up(tokens, STEP), most = DEPTH / STEP, threads = omp_get_max_threads();
  const int64_t laid = threads > 1 ? steps : std::min(most, steps);
  const Product product{{(const bf16*)dy, tokens, outs, dy_step}, {(const bf16*)x, tokens, ins, x_step}, dw};
  const Room right = room(across * laid);
  for (int64_t first = 0; first < steps; first += laid) sum(product, right.get(), first, std::min(steps, first + laid), add || first, threads);
}
}

#else

extern "C" void sartor_weight_gradient(int64_t, int64_t, int64_t, const void*, int64_t, const void*, int64_t, float*, int) {}

#endif
