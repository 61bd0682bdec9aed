// SPDX-License-Identifier: Apache-2.0
//
// Bench of packed_mac.hpp: sums of packed products, operands and results as binary files.
#include <cstdio>
#include <vector>

#include "mixq/packed_mac.hpp"

template <class T>
std::vector<T> read_all(const char* path) {
  std::vector<T> values;
  std::FILE* file = std::fopen(path, "rb");
  for (T value; file != nullptr && std::fread(&value, sizeof value, 1, file) == 1;) {
    values.push_back(value);
  }
  if (file != nullptr) std::fclose(file);
  return values;
}

/// Add sum over n of w[n] * a[n], as piece P computes it, to `total`.
template <class P, int CHAIN, int WORDS, int W_BITS, int A_BITS>
void add_piece(const int* weights, const int* acts, std::vector<long long>& total) {
  ap_int<W_BITS> w[WORDS][P::w_lanes];
  ap_uint<A_BITS> a[WORDS][P::a_lanes];
  ap_int<P::a_port> packed[WORDS];
  for (int n = 0; n < WORDS; ++n) {
    for (int i = 0; i < P::w_lanes; ++i) w[n][i] = weights[n * P::w_lanes + i];
    for (int j = 0; j < P::a_lanes; ++j) a[n][j] = acts[n * P::a_lanes + j];
    packed[n] = mixq::pack_acts<P>(a[n]);
  }
  ap_int<48> field[P::fields];
  mixq::packed_dot<P, CHAIN>(w, a, packed, field);
  for (int k = 0; k < P::fields; ++k) {
    total[k] += field[k].to_int64() * (1LL << (P::w_low + P::a_low));
  }
}

/// Read weights int32 [V][WORDS][w_lanes] and acts [V][WORDS][a_lanes]; write int64 [V][fields].
template <int CHAIN, int WORDS, int W_BITS, int A_BITS, class First, class... Others>
int run(const char* weights_path, const char* acts_path, const char* out_path) {
  const std::vector<int> weights = read_all<int>(weights_path), acts = read_all<int>(acts_path);
  const std::size_t vectors = weights.size() / (WORDS * First::w_lanes);
  std::FILE* out = std::fopen(out_path, "wb");
  for (std::size_t v = 0; v < vectors; ++v) {
    const int* w = &weights[v * WORDS * First::w_lanes];
    const int* a = &acts[v * WORDS * First::a_lanes];
    std::vector<long long> total(First::fields);
    add_piece<First, CHAIN, WORDS, W_BITS, A_BITS>(w, a, total);
    const int expand[] = {0, (add_piece<Others, CHAIN, WORDS, W_BITS, A_BITS>(w, a, total), 0)...};
    (void)expand;
    std::fwrite(total.data(), sizeof(long long), total.size(), out);
  }
  return std::fclose(out);
}
