// SPDX-License-Identifier: Apache-2.0
//
// Benches of one packing plan: operands and results are binary files.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "mixq/mac_array.hpp"

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

template <class T>
int write_all(const char* path, const std::vector<T>& values) {
  std::FILE* file = std::fopen(path, "wb");
  std::fwrite(values.data(), sizeof(T), values.size(), file);
  return std::fclose(file);
}

/// Run one row through an array V times: window words [V][iteration][row][column][channel], rom
/// [V][pe][depth][chunks], start [V][channel] -> sums [V][column step][column][channel].
template <class C, class... Words>
int run_array(const char* const* paths) {
  using S = mixq::MacShape<C>;
  const auto acts = read_all<int>(paths[0]);
  const auto rom = read_all<mixq::rom_word>(paths[1]);
  const auto start = read_all<long long>(paths[2]);
  std::vector<long long> sums;
  const int reads = C::column_steps * C::word_steps * S::STEPS;
  const int per_word = S::LANES * C::columns;
  for (std::size_t v = 0; v * S::PARALLEL < start.size(); ++v) {
    hls::stream<mixq::WindowWord<C::kernel_rows, C::columns, C::simd, C::a_bits> > in("in");
    hls::stream<mixq::SumWord<C::columns, S::PARALLEL, C::acc_bits> > out("out");
    mixq::WindowWord<C::kernel_rows, C::columns, C::simd, C::a_bits> word;
    for (int n = 0; n < reads; ++n) {
      const int* from = &acts[(v * reads + n) * per_word];
      for (auto& row : word.code) {
        for (auto& column : row) {
          for (auto& code : column) code = *from++;
        }
      }
      in.write(word);
    }
    auto& weights = *reinterpret_cast<const mixq::WeightRom<C>*>(
        &rom[v * C::pe * S::DEPTH * S::CHUNKS]);
    auto& first = *reinterpret_cast<const mixq::StartRom<C>*>(&start[v * S::PARALLEL]);
    mixq::mac_array<C, Words...>(in, out, weights, first, 1);
    for (int step = 0; step < C::column_steps; ++step) {
      const auto finished = out.read();
      for (const auto& column : finished.sum) {
        for (const auto& sum : column) sums.push_back(sum.to_int64());
      }
    }
  }
  return write_all(paths[3], sums);
}

/// Add what word W decodes out of N products of one channel to `total` [group][column].
template <class C, class W>
void run_word(const int* slices, const long long* biases, const int* acts, int N,
              std::vector<long long>& total) {
  ap_uint<C::p_bits> p = 0;
  ap_uint<C::tally_bits> tally[C::fields];
  for (int n = 0; n < N; ++n) {
    ap_uint<C::slice_bits> w[C::w_lanes];
    ap_uint<C::a_bits> a[W::a_lanes];
    for (int i = 0; i < C::w_lanes; ++i) w[i] = slices[n * C::w_lanes + i];
    for (int j = 0; j < W::a_lanes; ++j) a[j] = acts[n * C::columns + W::a_column(j)];
    const int w_word = mixq::pack_weights<W>(w), a_word = mixq::pack_acts<W>(a);
    int known[C::fields] = {};
    mixq::add_known<C, W>(w, a, known);
    if (n % C::decode_cycles == 0) {
      p = 0;
      for (auto& count : tally) count = 0;
    }
    const ap_uint<C::p_bits> before = p;
    const ap_int<C::p_bits> addend = biases[n] + W::bias - (long long)W::w_add * a_word;
    p += ap_uint<C::p_bits>(mixq::multiply_add<C>(addend, W::w_wide ? w_word : a_word,
                                                  W::w_wide ? a_word : w_word));
    mixq::track<C, W>(before, p, known, tally);
    if (n % C::decode_cycles < C::decode_cycles - 1 && n < N - 1) continue;
    ap_int<C::acc_bits> field[W::fields];
    mixq::decode<C, W>(p, tally, field);
    for (int k = 0; k < W::fields; ++k) {
      const int column = W::field_shift(k) + C::kernel - 1;
      total[W::field_group(k) * (C::columns + C::kernel - 1) + column] +=
          field[k].to_int64() * (1LL << W::scale);
    }
  }
}

/// The depthwise form: every channel is an output of its own, no two share an accumulator.
///
/// acts [channel][N][columns], slices [word][channel][N][lanes], biases [word][channel][N] -> sums
/// [channel][group][columns + kernel - 1].
template <class C, class... Words>
int run_channels(const char* const* paths) {
  const auto acts = read_all<int>(paths[0]), slices = read_all<int>(paths[1]);
  const auto biases = read_all<long long>(paths[2]);
  constexpr int N = mixq::MacShape<C>::STEPS;
  const std::size_t products = acts.size() / C::columns;
  std::vector<long long> sums;
  for (std::size_t n = 0; n < products; n += N) {
    std::vector<long long> total(C::groups * (C::columns + C::kernel - 1));
    const int expand[] = {
        (run_word<C, Words>(&slices[(Words::index * products + n) * C::w_lanes],
                            &biases[Words::index * products + n], &acts[n * C::columns], N, total),
         0)...};
    (void)expand;
    sums.insert(sums.end(), total.begin(), total.end());
  }
  return write_all(paths[3], sums);
}
