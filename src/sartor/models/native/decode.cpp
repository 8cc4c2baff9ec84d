// Attention of generation: one query place of every slot over the keys and values its slot holds, each to its own end, so
// nothing is computed for padding. Numbers are bf16 or fp32 in memory and fp32 in registers.
//
// One task is one slot and one key-value head with all query heads that share it: every key is read once for up to four of
// them. No two tasks write to the same place, so the result does not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int LANES = 16;
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Order __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

struct bf16 {
  uint16_t bits;
};

inline Lanes load(const float* from) {
  Lanes x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}
inline Lanes load(const bf16* from) {
  Halves x;
  std::memcpy(&x, from, sizeof(x));
  return (Lanes)(__builtin_convertvector(x, Bits) << 16);
}
inline void store(float* to, Lanes x) { std::memcpy(to, &x, sizeof(x)); }
inline void store(bf16* to, Lanes x) {  // to nearest, ties to even
  const Bits wide = (Bits)x;
  const Halves x16 = __builtin_convertvector((wide + 0x7fff + ((wide >> 16) & 1)) >> 16, Halves);
  std::memcpy(to, &x16, sizeof(x16));
}

// [a, b] -> neighbours added up: the sums of a's pairs, then of b's.
inline Lanes pairs(Lanes a, Lanes b) {
  const Order even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
  const Order odd = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}
// Sixteen vectors -> their sums.
inline Lanes sums(Lanes* x) {
  for (int left = LANES; left > 1; left /= 2)
    for (int i = 0; i < left / 2; ++i) x[i] = pairs(x[2 * i], x[2 * i + 1]);
  return x[0];
}

// exp(x) for x <= 0, written so that compilers vectorise it; about 2 ulp.
inline float exponential(float x) {
  const float scaled = std::max(x, -87.0f) * 1.44269504f;
  const float whole = std::nearbyintf(scaled), part = scaled - whole;
  float sum = 1.33335581e-3f;
  sum = sum * part + 9.61812910e-3f;
  sum = sum * part + 5.55041086e-2f;
  sum = sum * part + 2.40226506e-1f;
  sum = sum * part + 6.93147182e-1f;
  sum = sum * part + 1.0f;
  const uint32_t power = uint32_t(int32_t(whole) + 127) << 23;
  float factor;
  std::memcpy(&factor, &power, 4);
  return sum * factor;
}

// Mirrored by native/decode.py. Keys and values are [slots, places, kv_heads, size], dense.
struct Decode {
  const void *q, *keys, *values;
  void* out;               // [count, heads, size], dense
  float* lse;              // [count, heads], the logarithms of the sums of exp(score)
  const int64_t* ends;     // [count] places of each slot that are seen
  int64_t q_slot, q_head;  // strides of the queries
  int64_t places;
  int32_t count, heads, kv_heads, size;
  int32_t window;        // 0: no window
  float scale, softcap;  // softcap 0: none
};

constexpr int AHEAD = 16;
// Asks for a place that will be read soon: heads lie between the places of one, which hardware does not foresee.
template <typename T, int V>
inline void ahead(const T* place) {
  for (size_t byte = 0; byte < V * LANES * sizeof(T); byte += 64) __builtin_prefetch((const char*)place + byte);
}

// Scores of N queries [N][V * 16] against keys one `step` apart: scores[n * room + p], up to a multiple of 16 places.
template <typename T, int V, int N>
void products(const float* queries, const T* keys, int64_t step, int64_t length, float* scores, int64_t room) {
  Lanes q[N][V], part[N][LANES];
  for (int n = 0; n < N; ++n)
    for (int v = 0; v < V; ++v) q[n][v] = load(queries + (n * V + v) * LANES);
  for (int64_t first = 0; first < length; first += LANES) {
    for (int p = 0; p < LANES; ++p) {
      const T* key = keys + std::min(first + p, length - 1) * step;
      ahead<T, V>(key + AHEAD * step);
      Lanes k = load(key);
      for (int n = 0; n < N; ++n) part[n][p] = q[n][0] * k;
      for (int v = 1; v < V; ++v) {
        k = load(key + v * LANES);
        for (int n = 0; n < N; ++n) part[n][p] += q[n][v] * k;
      }
    }
    for (int n = 0; n < N; ++n) store(scores + n * room + first, sums(part[n]));
  }
}

// out [N][V * 16] = sum of shares[n * room + p] * values[p].
template <typename T, int V, int N>
void mixture(const float* shares, int64_t room, const T* values, int64_t step, int64_t length, T* out) {
  Lanes sum[N][V] = {};
  for (int64_t p = 0; p < length; ++p) {
    const T* value = values + p * step;
    ahead<T, V>(value + AHEAD * step);
    for (int v = 0; v < V; ++v) {
      const Lanes x = load(value + v * LANES);
      for (int n = 0; n < N; ++n) sum[n][v] += shares[n * room + p] * x;
    }
  }
  for (int n = 0; n < N; ++n)
    for (int v = 0; v < V; ++v) store(out + (n * V + v) * LANES, sum[n][v]);
}

// Returns the logarithm of the sum of exp(score).
float softmax(float* scores, int64_t length, float softcap) {
  if (softcap > 0)
    for (int64_t p = 0; p < length; ++p) scores[p] = softcap * std::tanh(scores[p] / softcap);
  float top = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : top)
  for (int64_t p = 0; p < length; ++p) top = std::max(top, scores[p]);
#pragma omp simd reduction(+ : sum)
  for (int64_t p = 0; p < length; ++p) {
    scores[p] = exponential(scores[p] - top);
    sum += scores[p];
  }
  const float scale = 1.0f / sum;
#pragma omp simd
  for (int64_t p = 0; p < length; ++p) scores[p] *= scale;
  return top + std::log(sum);
}

// One slot and one key-value head, with N of the query heads that share it.
template <typename T, int V, int N>
void attend(const Decode& call, int slot, int head, int group, std::vector<float>& scratch) {
  constexpr int SIZE = V * LANES;
  const int64_t end = call.ends[slot], from = call.window ? std::max<int64_t>(0, end - call.window) : 0;
  const int64_t length = end - from, step = int64_t(call.kv_heads) * SIZE;
  const int64_t first = (slot * call.places + from) * step + int64_t(head) * SIZE;
  const int64_t room = (length + LANES - 1) / LANES * LANES;
  const int asked = head * (call.heads / call.kv_heads) + group;
  scratch.resize(size_t(N) * (SIZE + room));
  float *queries = scratch.data(), *scores = queries + N * SIZE;
  for (int n = 0; n < N; ++n)
    for (int v = 0; v < V; ++v)
      store(queries + (n * V + v) * LANES,
            load((const T*)call.q + slot * call.q_slot + (asked + n) * call.q_head + v * LANES) * call.scale);
  products<T, V, N>(queries, (const T*)call.keys + first, step, length, scores, room);
  for (int n = 0; n < N; ++n)
    call.lse[int64_t(slot) * call.heads + asked + n] = softmax(scores + n * room, length, call.softcap);
  mixture<T, V, N>(scores, room, (const T*)call.values + first, step, length,
                   (T*)call.out + (int64_t(slot) * call.heads + asked) * SIZE);
}

template <typename T, int V>
void decode(const Decode& call) {
  const int groups = call.heads / call.kv_heads, tasks = call.count * call.kv_heads;
#pragma omp parallel
  {
    std::vector<float> scratch;
#pragma omp for schedule(dynamic)
    for (int task = 0; task < tasks; ++task) {
      const int slot = task / call.kv_heads, head = task % call.kv_heads;
      for (int group = 0; group < groups;) {
        const int left = groups - group;
        if (V <= 8 && left >= 3) {
          attend<T, V, V <= 8 ? 3 : 1>(call, slot, head, group, scratch), group += 3;
        } else if (V <= 8 && left == 2) {
          attend<T, V, V <= 8 ? 2 : 1>(call, slot, head, group, scratch), group += 2;
        } else {
          attend<T, V, 1>(call, slot, head, group, scratch), group += 1;
        }
      }
    }
  }
}

template <typename T>
int dispatch(const Decode& call) {
  switch (call.size) {
    case 16: decode<T, 1>(call); return 0;
    case 32: decode<T, 2>(call); return 0;
    case 48: decode<T, 3>(call); return 0;
    case 64: decode<T, 4>(call); return 0;
    case 80: decode<T, 5>(call); return 0;
    case 96: decode<T, 6>(call); return 0;
    case 128: decode<T, 8>(call); return 0;
    case 256: decode<T, 16>(call); return 0;
    default: return 1;
  }
}

}  // namespace

// 0: done; 1: there is no kernel for this head size.
extern "C" int sartor_decode(int wide, const Decode* call) { return wide ? dispatch<float>(*call) : dispatch<bf16>(*call); }
