// What surrounds the matrix products of a decoder, each in one pass over memory: RMSNorm, the gated activation of the
// feed-forward block, and softmax with its gradient at the head. Numbers are bf16 or fp32 in memory and fp32 in registers.
// Sums over tokens are made in blocks of fixed size and added in order, so no result depends on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct bf16 {
  uint16_t bits;
};

inline float load(bf16 x) {
  const uint32_t wide = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}
inline float load(float x) { return x; }
inline void store(bf16& to, float x) {  // to nearest, ties to even
  uint32_t wide;
  std::memcpy(&wide, &x, 4);
  to.bits = uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
}
inline void store(float& to, float x) { to = x; }

// exp(x), written so that compilers vectorise it; about 2 ulp.
inline float exponential(float x) {
  const float scaled = std::min(std::max(x, -87.0f), 88.0f) * 1.44269504f;
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

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// Tokens whose sums are made together.
constexpr int64_t BLOCK = 64;

// y = x / sqrt(mean(x^2) + eps) * (w + offset); `inverse` [tokens] keeps 1 / sqrt(...).
template <typename T>
void norm_forward(int64_t tokens, int64_t size, const T* x, const T* w, float offset, float eps, T* y, float* inverse) {
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const T* in = x + t * size;
    T* out = y + t * size;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; ++i) sum += load(in[i]) * load(in[i]);
    const float scale = 1.0f / std::sqrt(sum / float(size) + eps);
    inverse[t] = scale;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) store(out[i], load(in[i]) * scale * (load(w[i]) + offset));
  }
}

// dx = r (g - x r^2 mean(g x)) with g = dy (w + offset), r = inverse; dw = sum_t dy x r, when wanted (dw not null).
template <typename T>
void norm_backward(int64_t tokens, int64_t size, const T* x, const T* w, float offset, const float* inverse, const T* dy,
                   T* dx, float* dw) {
  const int64_t blocks = (tokens + BLOCK - 1) / BLOCK;
  std::vector<float> parts(dw ? size_t(blocks * size) : 0, 0.0f);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    float* part = dw ? parts.data() + block * size : nullptr;
    for (int64_t t = block * BLOCK; t < std::min(tokens, (block + 1) * BLOCK); ++t) {
      const T *in = x + t * size, *slope = dy + t * size;
      T* out = dx + t * size;
      const float scale = inverse[t];
      float mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t i = 0; i < size; ++i) mean += load(slope[i]) * (load(w[i]) + offset) * load(in[i]);
      mean *= scale * scale / float(size);
      if (part) {
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) part[i] += load(slope[i]) * load(in[i]) * scale;
      }
#pragma omp simd
      for (int64_t i = 0; i < size; ++i)
        store(out[i], scale * (load(slope[i]) * (load(w[i]) + offset) - load(in[i]) * mean));
    }
  }
  if (!dw) return;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < size; ++i) {
    float sum = 0;
    for (int64_t block = 0; block < blocks; ++block) sum += parts[size_t(block * size + i)];
    dw[i] = sum;
  }
}

struct Silu {
  static float value(float x) { return x * sigmoid(x); }
  static float slope(float x) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
};

struct GeluTanh {  // x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
  static constexpr float A = 1.59576912f, B = 0.07135481f;  // 2 sqrt(2/pi), and 0.044715 times it
  static float value(float x) { return x * sigmoid(x * (A + B * x * x)); }
  static float slope(float x) {
    const float s = sigmoid(x * (A + B * x * x));
    return s + x * s * (1.0f - s) * (A + 3.0f * B * x * x);
  }
};

constexpr int64_t PIECE = 4096;

template <typename T, typename Act>
void gated_forward(int64_t count, const T* gate, const T* up, T* out) {
#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t end = std::min(count, first + PIECE);
#pragma omp simd
    for (int64_t i = first; i < end; ++i) store(out[i], Act::value(load(gate[i])) * load(up[i]));
  }
}

template <typename T, typename Act>
void gated_backward(int64_t count, const T* gate, const T* up, const T* dout, T* dgate, T* dup) {
#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t end = std::min(count, first + PIECE);
#pragma omp simd
    for (int64_t i = first; i < end; ++i) {
      const float g = load(gate[i]), slope = load(dout[i]);
      store(dup[i], slope * Act::value(g));
      store(dgate[i], slope * load(up[i]) * Act::slope(g));
    }
  }
}

// logits [places, vocabulary] -> their gradient weight (softmax - onehot), in place; loss [places] = -weight log softmax.
template <typename T>
void nll(int64_t places, int64_t vocabulary, T* logits, const int64_t* target, const float* weight, float* loss) {
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < places; ++n) {
    T* line = logits + n * vocabulary;
    float top = load(line[0]);
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < vocabulary; ++i) top = std::max(top, load(line[i]));
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < vocabulary; ++i) sum += exponential(load(line[i]) - top);
    const float chosen = load(line[target[n]]), scale = weight[n] / sum;
    loss[n] = weight[n] * (std::log(sum) + top - chosen);
    const float share = exponential(chosen - top) * scale;
#pragma omp simd
    for (int64_t i = 0; i < vocabulary; ++i) store(line[i], exponential(load(line[i]) - top) * scale);
    store(line[target[n]], share - weight[n]);
  }
}

}  // namespace

#define FOR_TYPE(call)      \
  if (wide) {               \
    using T = float;        \
    call;                   \
  } else {                  \
    using T = bf16;         \
    call;                   \
  }

extern "C" {

void sartor_norm_forward(int wide, int64_t tokens, int64_t size, const void* x, const void* w, float offset, float eps,
                         void* y, float* inverse) {
  FOR_TYPE(norm_forward(tokens, size, (const T*)x, (const T*)w, offset, eps, (T*)y, inverse))
}

void sartor_norm_backward(int wide, int64_t tokens, int64_t size, const void* x, const void* w, float offset,
                          const float* inverse, const void* dy, void* dx, float* dw) {
  FOR_TYPE(norm_backward(tokens, size, (const T*)x, (const T*)w, offset, inverse, (const T*)dy, (T*)dx, dw))
}

void sartor_gated_forward(int wide, int gelu, int64_t count, const void* gate, const void* up, void* out) {
  if (gelu) {
    FOR_TYPE((gated_forward<T, GeluTanh>(count, (const T*)gate, (const T*)up, (T*)out)))
  } else {
    FOR_TYPE((gated_forward<T, Silu>(count, (const T*)gate, (const T*)up, (T*)out)))
  }
}

void sartor_gated_backward(int wide, int gelu, int64_t count, const void* gate, const void* up, const void* dout, void* dgate,
                           void* dup) {
  if (gelu) {
    FOR_TYPE((gated_backward<T, GeluTanh>(count, (const T*)gate, (const T*)up, (const T*)dout, (T*)dgate, (T*)dup)))
  } else {
    FOR_TYPE((gated_backward<T, Silu>(count, (const T*)gate, (const T*)up, (const T*)dout, (T*)dgate, (T*)dup)))
  }
}

void sartor_nll(int wide, int64_t places, int64_t vocabulary, void* logits, const int64_t* target, const float* weight,
                float* loss) {
  FOR_TYPE(nll(places, vocabulary, (T*)logits, target, weight, loss))
}
}
