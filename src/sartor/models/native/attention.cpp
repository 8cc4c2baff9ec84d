// Causal attention within rows laid end to end, bf16 in and out, fp32 sums, forward and backward, on AMX tiles.
//
// One task is one row and one key-value head with all query heads that share it, so no two tasks write to the same place and
// the result does not depend on the number of threads. Rows are short enough (thousands) that a strip of scores of 64 places
// against the whole row fits into the second-level cache: the softmax is the plain one, without running maxima.
// The backward pass follows Dao et al. 2022, "FlashAttention", algorithm 4, with strips of keys instead of blocks:
//   P = exp(scale Q K^T - lse),  dV = P^T dO,  dS = scale P (dO V^T - rowsum(dO O)),  dQ = dS K,  dK = dS^T Q.
// A matrix in "pairs" has consecutive entries along the summed dimension side by side: [K/2][N][2], as the tiles want it.

#include <cstddef>
#include <cstdint>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "tiles.h"

namespace {

constexpr int STRIP = 64;

int up(int value, int step) { return (value + step - 1) / step * step; }

template <int ROWS, int COLUMNS>
inline void block(int depth, const bf16* a, int lda, const bf16* b, int ldb, float* c, int ldc, bool add) {
  const size_t row = size_t(lda) * 2, pair = size_t(ldb) * 4, out = size_t(ldc) * 4;
  if (add) {
    _tile_loadd(0, c, out);
    if (COLUMNS > 1) _tile_loadd(1, c + 16, out);
    if (ROWS > 1) _tile_loadd(2, c + 16 * ldc, out);
    if (ROWS > 1 && COLUMNS > 1) _tile_loadd(3, c + 16 * ldc + 16, out);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int k = 0; k < depth; k += 32) {
    const bf16* pairs = b + size_t(k) * ldb;
    _tile_loadd(4, a + k, row);
    _tile_loadd(6, pairs, pair);
    _tile_dpbf16ps(0, 4, 6);
    if (COLUMNS > 1) {
      _tile_loadd(7, pairs + 32, pair);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (ROWS > 1) {
      _tile_loadd(5, a + size_t(16) * lda + k, row);
      _tile_dpbf16ps(2, 5, 6);
      if (COLUMNS > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, out);
  if (COLUMNS > 1) _tile_stored(1, c + 16, out);
  if (ROWS > 1) _tile_stored(2, c + 16 * ldc, out);
  if (ROWS > 1 && COLUMNS > 1) _tile_stored(3, c + 16 * ldc + 16, out);
}

// C [m, n] (+)= A [m, k] B, B in pairs; m and n multiples of 16, k of 32.
void product(int m, int n, int k, const bf16* a, int lda, const bf16* b, int ldb, float* c, int ldc, bool add) {
  for (int i = 0; i < m; i += 32) {
    for (int j = 0; j < n; j += 32) {
      const bf16* left = a + size_t(i) * lda;
      const bf16* right = b + size_t(j) * 2;
      float* out = c + size_t(i) * ldc + j;
      if (m - i > 16 && n - j > 16) block<2, 2>(k, left, lda, right, ldb, out, ldc, add);
      else if (m - i > 16) block<2, 1>(k, left, lda, right, ldb, out, ldc, add);
      else if (n - j > 16) block<1, 2>(k, left, lda, right, ldb, out, ldc, add);
      else block<1, 1>(k, left, lda, right, ldb, out, ldc, add);
    }
  }
}

// exp(x) for x <= 0 to about 2 ulp of fp32: 2^n times a polynomial of the fraction.
inline __m512 exponential(__m512 x) {
  const __m512 scaled = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 whole = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(scaled, whole);
  __m512 sum = _mm512_set1_ps(1.33335581e-3f);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(9.61812910e-3f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(5.55041086e-2f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.40226506e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.93147182e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(sum, whole);
}

inline __m256i rounded(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
inline __m512 widened(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
inline __m512i paired(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}
// The lanes of 16 places from `first` that lie in [from, to).
inline __mmask16 between(int first, int from, int to) {
  const int low = std::clamp(from - first, 0, 16), high = std::clamp(to - first, 0, 16);
  return __mmask16(((1u << high) - 1) & ~((1u << low) - 1));
}

// Memory that a thread keeps from call to call.
class Arena {
 public:
  void begin() { used_ = 0; }
  template <typename T>
  T* take(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    used_ += bytes;
    return reinterpret_cast<T*>(memory_ + used_ - bytes);
  }
  void reserve(size_t bytes) {
    if (bytes <= size_) return;
    std::free(memory_);
    size_ = (bytes + (1 << 20)) / 64 * 64;
    memory_ = static_cast<char*>(std::aligned_alloc(64, size_));
  }
  ~Arena() { std::free(memory_); }

 private:
  char* memory_ = nullptr;
  size_t size_ = 0, used_ = 0;
};

thread_local Arena arena;

struct View {  // [T, heads, D], the last dimension contiguous
  const bf16* data;
  int64_t token, head;
  const bf16* at(int64_t t, int h) const { return data + t * token + h * head; }
};

// Rotary position embedding (Su et al. 2021), the two halves of a head turned against each other:
//   y1 = x1 c1 - x2 s1,  y2 = x2 c2 + x1 s2.  cos and sin are [T, D]; null: no rotation.
struct Turn {
  const bf16 *cos = nullptr, *sin = nullptr;
};

struct Halves {
  __m512 low, high;
};

inline Halves read(const bf16* from, int half, int j, __mmask16 real) {
  return {widened(_mm256_maskz_loadu_epi16(real, from + j)), widened(_mm256_maskz_loadu_epi16(real, from + half + j))};
}

inline void write(bf16* to, int half, int j, __mmask16 real, Halves x) {
  _mm256_mask_storeu_epi16(to + j, real, rounded(x.low));
  _mm256_mask_storeu_epi16(to + half + j, real, rounded(x.high));
}

// One head of one row, [L, D], rotated and padded with zeros to [Lp, Dp].
void padded(const View& view, Turn turn, int64_t start, int head, int length, int size, int lp, int dp, bf16* to) {
  const int half = size / 2;
  for (int i = 0; i < length; ++i) {
    const bf16* from = view.at(start + i, head);
    bf16* line = to + size_t(i) * dp;
    if (turn.cos) {
      for (int j = 0; j < half; j += 16) {
        const __mmask16 real = between(j, 0, half);
        const Halves x = read(from, half, j, real), c = read(turn.cos + (start + i) * size, half, j, real);
        const Halves s = read(turn.sin + (start + i) * size, half, j, real);
        write(line, half, j, real,
              {_mm512_fmsub_ps(x.low, c.low, _mm512_mul_ps(x.high, s.low)),
               _mm512_fmadd_ps(x.high, c.high, _mm512_mul_ps(x.low, s.high))});
      }
    } else {
      std::memcpy(line, from, size_t(size) * 2);
    }
    if (dp > size) std::memset(line + size, 0, size_t(dp - size) * 2);
  }
  std::memset(to + size_t(length) * dp, 0, size_t(lp - length) * dp * 2);
}

// [Lp, Dp] -> its transpose in pairs, [Dp/2][Lp][2].
void transposed_pairs(const bf16* from, int lp, int dp, bf16* to) {
  const auto* in = reinterpret_cast<const uint32_t*>(from);
  auto* out = reinterpret_cast<uint32_t*>(to);
  for (int i = 0; i < lp; i += 16)
    for (int j = 0; j < dp / 2; j += 16) transpose16(in + size_t(i) * dp / 2 + j, dp / 2, out + size_t(j) * lp + i, lp);
}

// [Lp, Dp] -> in pairs, [Lp/2][Dp][2].
void pairs(const bf16* from, int lp, int dp, bf16* to) {
  for (int i = 0; i < lp; i += 2)
    for (int j = 0; j < dp; j += 16) {
      const auto even = _mm256_loadu_si256((const __m256i*)(from + size_t(i) * dp + j));
      const auto odd = _mm256_loadu_si256((const __m256i*)(from + size_t(i + 1) * dp + j));
      _mm512_storeu_si512(to + size_t(i) * dp + 2 * j, paired(even, odd));
    }
}

// A transpose in pairs [Dp/2][Lp][2] -> the plain transpose [Dp, Lp].
void unpaired(const bf16* from, int lp, int dp, bf16* to) {
  for (int d = 0; d < dp; d += 2)
    for (int i = 0; i < lp; i += 16) {
      const __m512i both = _mm512_loadu_si512(from + size_t(d) * lp + 2 * i);
      _mm256_storeu_si256((__m256i*)(to + size_t(d) * lp + i), _mm512_cvtepi32_epi16(both));
      _mm256_storeu_si256((__m256i*)(to + size_t(d + 1) * lp + i), _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
    }
}

// Gradients [length, Dp] of rotated places -> bf16 gradients of the places before, one every `step` numbers.
void store_rows(const float* from, Turn turn, int64_t start, int length, int size, int dp, bf16* to, int64_t step) {
  const int half = size / 2;
  for (int i = 0; i < length; ++i) {
    const float* line = from + size_t(i) * dp;
    if (!turn.cos) {
      for (int j = 0; j < size; j += 16) _mm256_mask_storeu_epi16(to + i * step + j, between(j, 0, size), rounded(_mm512_loadu_ps(line + j)));
      continue;
    }
    for (int j = 0; j < half; j += 16) {
      const __mmask16 real = between(j, 0, half);
      const __m512 low = _mm512_maskz_loadu_ps(real, line + j), high = _mm512_maskz_loadu_ps(real, line + half + j);
      const Halves c = read(turn.cos + (start + i) * size, half, j, real), s = read(turn.sin + (start + i) * size, half, j, real);
      write(to + i * step, half, j, real,
            {_mm512_fmadd_ps(low, c.low, _mm512_mul_ps(high, s.high)), _mm512_fmsub_ps(high, c.high, _mm512_mul_ps(low, s.low))});
    }
  }
}

// A row may have a prefix, keys and values that come before its own: `early` places from `before` on. Several rows may have
// the same one, so each writes its gradients of it to places of its own, from `spill` on.
struct Rows {
  int count;
  const int32_t *start, *length, *order;  // order: longest first
  const int32_t *before, *early, *spill;
  int heads, kv_heads, size, window;      // window 0: none
  float scale;
  Turn turn;
  int group() const { return heads / kv_heads; }
  int dp() const { return up(size, 32); }
};

// One key-value head of one row behind its prefix, padded with zeros to [Lp, Dp].
void behind_prefix(const View& view, Turn turn, const Rows& rows, int row, int kv, int lp, int dp, bf16* to) {
  const int early = rows.early[row];
  padded(view, turn, rows.before[row], kv, early, rows.size, early, dp, to);
  padded(view, turn, rows.start[row], kv, rows.length[row], rows.size, lp - early, dp, to + size_t(early) * dp);
}

void forward_task(const Rows& rows, int row, int kv, View q, View k, View v, bf16* out, float* lse, int64_t total) {
  const int early = rows.early[row], own = rows.length[row], length = early + own;
  const int dp = rows.dp(), lp = up(length, 32), op = up(own, 32), size = rows.size;
  const int64_t start = rows.start[row];
  arena.reserve(size_t(lp) * dp * 2 * 4 + size_t(STRIP) * (lp * 6 + dp * 8) + 4096);
  arena.begin();
  bf16* plain = arena.take<bf16>(size_t(lp) * dp);
  bf16* keys = arena.take<bf16>(size_t(lp) * dp);
  bf16* values = arena.take<bf16>(size_t(lp) * dp);
  float* scores = arena.take<float>(size_t(STRIP) * lp);
  bf16* shares = arena.take<bf16>(size_t(STRIP) * lp);
  float* sums = arena.take<float>(size_t(STRIP) * dp);
  behind_prefix(k, rows.turn, rows, row, kv, lp, dp, plain);
  transposed_pairs(plain, lp, dp, keys);
  behind_prefix(v, {}, rows, row, kv, lp, dp, plain);
  pairs(plain, lp, dp, values);
  for (int head = kv * rows.group(); head < (kv + 1) * rows.group(); ++head) {
    padded(q, rows.turn, start, head, own, size, op, dp, plain);
    for (int first = 0; first < own; first += STRIP) {
      const int here = std::min(STRIP, op - first), end = std::min(lp, up(early + first + here, 32));
      const int begin = rows.window ? std::max(0, early + first - rows.window + 1) / 32 * 32 : 0, wide = end - begin;
      product(here, wide, dp, plain + size_t(first) * dp, dp, keys + size_t(begin) * 2, lp, scores, wide, false);
      float inverse[STRIP];
      for (int i = 0; i < here; ++i) {
        const int place = early + std::min(first + i, own - 1);
        const int from = rows.window ? std::max(0, place - rows.window + 1) : 0;
        float* line = scores + size_t(i) * wide;
        bf16* share = shares + size_t(i) * wide;
        __m512 high = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
        for (int j = from / 16 * 16; j <= place; j += 16)
          high = _mm512_mask_max_ps(high, between(j, from, place + 1), high, _mm512_loadu_ps(line + j - begin));
        const float top = _mm512_reduce_max_ps(high) * rows.scale;
        __m512 sum = _mm512_setzero_ps();
        for (int j = begin; j < end; j += 16) {
          const __mmask16 seen = between(j, from, place + 1);
          const __m512 shifted = _mm512_fmsub_ps(_mm512_loadu_ps(line + j - begin), _mm512_set1_ps(rows.scale), _mm512_set1_ps(top));
          const __m512 share_here = seen ? _mm512_maskz_mov_ps(seen, exponential(shifted)) : _mm512_setzero_ps();
          sum = _mm512_add_ps(sum, share_here);
          _mm256_storeu_si256((__m256i*)(share + j - begin), rounded(share_here));
        }
        const float mass = _mm512_reduce_add_ps(sum);
        inverse[i] = 1.0f / mass;
        if (first + i < own) lse[int64_t(head) * total + start + first + i] = top + __builtin_logf(mass);
      }
      product(here, dp, wide, shares, wide, values + size_t(begin) * dp, dp, sums, dp, false);
      for (int i = 0; i < here && first + i < own; ++i) {
        bf16* to = out + (start + first + i) * int64_t(rows.heads) * size + int64_t(head) * size;
        for (int j = 0; j < size; j += 16) {
          const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(sums + size_t(i) * dp + j), _mm512_set1_ps(inverse[i]));
          _mm256_mask_storeu_epi16(to + j, between(j, 0, size), rounded(scaled));
        }
      }
    }
  }
}

void backward_task(const Rows& rows, int row, int kv, View q, View k, View v, View out, View grad, const float* lse,
                   bf16* dq, bf16* dk, bf16* dv, int64_t total) {
  const int early = rows.early[row], own = rows.length[row], length = early + own;
  const int dp = rows.dp(), lp = up(length, 32), op = up(own, 32), size = rows.size;
  const int64_t start = rows.start[row];
  const size_t area = size_t(lp) * dp;
  arena.reserve(area * (2 * 9 + 4 * 3) + size_t(STRIP) * lp * (4 + 4 + 2 + 2 + 2) + size_t(lp) * 8 + size_t(dp) * 64 + 8192);
  arena.begin();
  bf16 *keys = arena.take<bf16>(area), *values = arena.take<bf16>(area), *keys_t = arena.take<bf16>(area);
  bf16 *plain = arena.take<bf16>(area), *q_pairs = arena.take<bf16>(area), *q_t = arena.take<bf16>(area);
  bf16 *g_pairs = arena.take<bf16>(area), *g_t = arena.take<bf16>(area);
  float *sum_k = arena.take<float>(area), *sum_v = arena.take<float>(area), *sum_q = arena.take<float>(area);
  float *scores = arena.take<float>(size_t(STRIP) * lp), *slopes = arena.take<float>(size_t(STRIP) * lp);
  bf16 *p = arena.take<bf16>(size_t(STRIP) * lp), *ds = arena.take<bf16>(size_t(STRIP) * lp);
  bf16* ds_pairs = arena.take<bf16>(size_t(STRIP) * lp);
  float *norm = arena.take<float>(lp), *delta = arena.take<float>(lp), *lines = arena.take<float>(size_t(16) * dp);
  behind_prefix(k, rows.turn, rows, row, kv, lp, dp, keys);
  behind_prefix(v, {}, rows, row, kv, lp, dp, values);
  transposed_pairs(keys, lp, dp, plain);
  unpaired(plain, lp, dp, keys_t);
  const __m512 scale = _mm512_set1_ps(rows.scale);
  for (int head = kv * rows.group(); head < (kv + 1) * rows.group(); ++head) {
    const bool more = head > kv * rows.group();
    padded(q, rows.turn, start, head, own, size, op, dp, plain);
    pairs(plain, op, dp, q_pairs);
    transposed_pairs(plain, op, dp, q_t);
    padded(grad, {}, start, head, own, size, op, dp, plain);
    pairs(plain, op, dp, g_pairs);
    transposed_pairs(plain, op, dp, g_t);
    std::memset(norm, 0, size_t(op) * 4);
    std::memset(delta, 0, size_t(op) * 4);
    std::memset(sum_q, 0, size_t(op) * dp * 4);
    for (int i = 0; i < own; ++i) {
      __m512 sum = _mm512_setzero_ps();
      const bf16* made = out.at(start + i, head);
      for (int j = 0; j < size; j += 16) {
        const __mmask16 real = between(j, 0, size);
        const __m512 a = widened(_mm256_maskz_loadu_epi16(real, made + j));
        const __m512 b = widened(_mm256_loadu_si256((const __m256i*)(plain + size_t(i) * dp + j)));
        sum = _mm512_fmadd_ps(a, b, sum);
      }
      delta[i] = _mm512_reduce_add_ps(sum);
      norm[i] = lse[int64_t(head) * total + start + i];
    }
    for (int first = 0; first < length; first += STRIP) {
      // The queries that see these keys: [begin, end).
      const int here = std::min(STRIP, lp - first), begin = std::max(0, first - early) / 32 * 32;
      const int end = rows.window ? std::min(op, up(std::max(0, first + here + rows.window - 1 - early), 32)) : op;
      const int wide = end - begin;
      if (wide <= 0) {
        if (!more) std::memset(sum_k + size_t(first) * dp, 0, size_t(here) * dp * 4);
        if (!more) std::memset(sum_v + size_t(first) * dp, 0, size_t(here) * dp * 4);
        continue;
      }
      product(here, wide, dp, keys + size_t(first) * dp, dp, q_t + size_t(begin) * 2, op, scores, wide, false);
      product(here, wide, dp, values + size_t(first) * dp, dp, g_t + size_t(begin) * 2, op, slopes, wide, false);
      for (int i = 0; i < here; i += 2) {
        for (int j = 0; j < wide; j += 16) {
          const __m512 off = _mm512_loadu_ps(norm + begin + j), mean = _mm512_loadu_ps(delta + begin + j);
          __m256i even, odd;
          for (int side = 0; side < 2; ++side) {
            const int key = first + i + side;
            const int last = rows.window ? std::min(length, key + rows.window) : length;
            const size_t at = size_t(i + side) * wide + j;
            const __mmask16 seen = key < length ? between(early + begin + j, key, last) : 0;
            __m512 share = _mm512_setzero_ps(), slope = _mm512_setzero_ps();
            if (seen) {
              share = _mm512_maskz_mov_ps(seen, exponential(_mm512_fmsub_ps(_mm512_loadu_ps(scores + at), scale, off)));
              slope = _mm512_mul_ps(_mm512_mul_ps(share, scale), _mm512_sub_ps(_mm512_loadu_ps(slopes + at), mean));
            }
            const __m256i small = rounded(slope);
            _mm256_storeu_si256((__m256i*)(p + at), rounded(share));
            _mm256_storeu_si256((__m256i*)(ds + at), small);
            (side ? odd : even) = small;
          }
          _mm512_storeu_si512(ds_pairs + size_t(i) * wide + 2 * j, paired(even, odd));
        }
      }
      product(here, dp, wide, p, wide, g_pairs + size_t(begin) * dp, dp, sum_v + size_t(first) * dp, dp, more);
      product(here, dp, wide, ds, wide, q_pairs + size_t(begin) * dp, dp, sum_k + size_t(first) * dp, dp, more);
      // dQ^T [Dp, wide] += K^T [Dp, here] dS^T.
      product(dp, wide, here, keys_t + first, lp, ds_pairs, wide, sum_q + begin, op, true);
    }
    const int64_t step = int64_t(rows.heads) * size;
    for (int i = 0; i < own; i += 16) {
      for (int j = 0; j < dp; j += 16)
        transpose16((const uint32_t*)(sum_q + size_t(j) * op + i), op, (uint32_t*)(lines + j), dp);
      store_rows(lines, rows.turn, start + i, std::min(16, own - i), size, dp, dq + (start + i) * step + int64_t(head) * size, step);
    }
  }
  const int64_t step = int64_t(rows.kv_heads) * size;
  const int64_t spill = rows.spill[row], column = int64_t(kv) * size;
  store_rows(sum_k, rows.turn, rows.before[row], early, size, dp, dk + spill * step + column, step);
  store_rows(sum_v, {}, rows.before[row], early, size, dp, dv + spill * step + column, step);
  store_rows(sum_k + size_t(early) * dp, rows.turn, start, own, size, dp, dk + start * step + column, step);
  store_rows(sum_v + size_t(early) * dp, {}, start, own, size, dp, dv + start * step + column, step);
}

}  // namespace

extern "C" {

// 0 when this process may use the tiles.
int sartor_attention_ready() {
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0 ? 0 : 1;
}

// q, k and v are [total, heads or kv_heads, size] with their own steps from token to token and from head to head; everything
// that is written is dense. `order` lists the rows, longest first. k, v, cos and sin have further places for prefixes, dk and
// dv for their gradients; `total` counts the places of queries.
struct Call {
  const int32_t *start, *length, *order, *before, *early, *spill;
  const bf16 *q, *k, *v, *cos, *sin, *out, *grad;
  bf16 *dq, *dk, *dv;
  float* lse;
  int64_t q_token, q_head, k_token, k_head, v_token, v_head, grad_token, grad_head, total;
  int32_t count, heads, kv_heads, size, window;
  float scale;
};

static Rows rows_of(const Call* c) {
  return {c->count, c->start, c->length, c->order, c->before, c->early, c->spill, c->heads, c->kv_heads, c->size, c->window, c->scale, {c->cos, c->sin}};
}

void sartor_attention_forward(const Call* c) {
  const Rows rows = rows_of(c);
#pragma omp parallel
  {
    Tiles tiles;
#pragma omp for schedule(dynamic, 1)
    for (int task = 0; task < c->count * c->kv_heads; ++task)
      forward_task(rows, c->order[task / c->kv_heads], task % c->kv_heads, {c->q, c->q_token, c->q_head},
                   {c->k, c->k_token, c->k_head}, {c->v, c->v_token, c->v_head}, const_cast<bf16*>(c->out), c->lse, c->total);
  }
}

void sartor_attention_backward(const Call* c) {
  const Rows rows = rows_of(c);
  const View made{c->out, int64_t(c->heads) * c->size, c->size};
#pragma omp parallel
  {
    Tiles tiles;
#pragma omp for schedule(dynamic, 1)
    for (int task = 0; task < c->count * c->kv_heads; ++task)
      backward_task(rows, c->order[task / c->kv_heads], task % c->kv_heads, {c->q, c->q_token, c->q_head},
                    {c->k, c->k_token, c->k_head}, {c->v, c->v_token, c->v_head}, made, {c->grad, c->grad_token, c->grad_head},
                    c->lse, c->dq, c->dk, c->dv, c->total);
  }
}
}

#else

extern "C" int sartor_attention_ready() { return 2; }

#endif
