// SPDX-License-Identifier: Apache-2.0
//
// Array of packed multipliers with partial sums that slide along the row.
#ifndef MIXQ_MAC_ARRAY_HPP
#define MIXQ_MAC_ARRAY_HPP

#include "mixq/packed_mac.hpp"

namespace mixq {

/// Sizes that follow from an array's configuration.
template <class C>
struct MacShape {
  static constexpr int PARALLEL = C::pe * C::groups;
  static constexpr int GROUPS_OUT = C::out_channels / PARALLEL;
  static constexpr int WORDS = C::kernel_rows * C::simd;  // packed words per array and cycle
  static constexpr int TAPS = C::groups * C::taps;        // weights per packed word
  static constexpr int STEPS = (C::kernel / C::kernel_rows) * (C::in_channels / C::simd) *
                               C::tap_steps;              // cycles per column step
  static constexpr int CHAIN = C::chain < WORDS ? C::chain : WORDS;
  static constexpr int SPAN = C::columns + C::kernel - 1;  // output columns one window touches
  static constexpr int SHIFTS = C::columns + C::taps - 1;  // of them, by one tap step
  static constexpr int PER_CHUNK = 64 / C::w_bits;         // weights per slice of a ROM word
  static constexpr int CHUNKS = ceil_div(WORDS * TAPS, PER_CHUNK);
};

/// Weights of all arrays: [pe][out group, kernel row group, channel group, tap step][64-bit slice].
template <class C>
using WeightRom = rom_word[C::pe][MacShape<C>::GROUPS_OUT * MacShape<C>::STEPS]
                          [MacShape<C>::CHUNKS];

/// The weights that one array multiplies in one cycle: [kernel row, channel][group, tap].
template <class C>
using WeightWords = ap_int<C::w_bits>[MacShape<C>::WORDS][MacShape<C>::TAPS];

/// Products of one cycle: [array][group][column - tap + taps - 1].
template <class C>
using Products = ap_int<C::acc_bits>[C::pe][C::groups][MacShape<C>::SHIFTS];

/// Set every element to zero (the default constructor of ap_int leaves it undefined).
template <int ROWS, int COLUMNS, int BITS>
void clear(ap_int<BITS> (&values)[ROWS][COLUMNS]) {
#pragma HLS INLINE
  for (int r = 0; r < ROWS; ++r) {
#pragma HLS UNROLL
    for (int c = 0; c < COLUMNS; ++c) {
#pragma HLS UNROLL
      values[r][c] = 0;
    }
  }
}

/// Cut one ROM word into weights.
template <class C>
void unpack_weights(const rom_word (&rom)[MacShape<C>::CHUNKS], WeightWords<C>& weights) {
#pragma HLS INLINE
  using S = MacShape<C>;
  for (int n = 0; n < S::WORDS; ++n) {
#pragma HLS UNROLL
    for (int tap = 0; tap < S::TAPS; ++tap) {
#pragma HLS UNROLL
      const int e = n * S::TAPS + tap;
      weights[n][tap] = rom[e / S::PER_CHUNK] >> (e % S::PER_CHUNK * C::w_bits);
    }
  }
}

/// Add what piece P of the packing plan contributes in this cycle to `products`.
template <class C, class P>
void add_piece(const WindowWord<C::kernel_rows, C::columns, C::simd, C::a_bits>& x,
               const WeightWords<C> (&weights)[C::pe], Products<C>& products) {
#pragma HLS INLINE
  using S = MacShape<C>;
  ap_uint<C::a_bits> acts[S::WORDS][P::a_lanes];
#pragma HLS ARRAY_PARTITION variable = acts complete dim = 0
  ap_int<P::a_port> packed[S::WORDS];
#pragma HLS ARRAY_PARTITION variable = packed complete dim = 0
  for (int n = 0; n < S::WORDS; ++n) {
#pragma HLS UNROLL
    for (int j = 0; j < P::a_lanes; ++j) {
#pragma HLS UNROLL
      acts[n][j] = x.code[n / C::simd][P::a_column(j)][n % C::simd];
    }
    packed[n] = pack_acts<P>(acts[n]);
  }
  for (int pe = 0; pe < C::pe; ++pe) {
#pragma HLS UNROLL
    ap_int<C::w_bits> lanes[S::WORDS][P::w_lanes];
#pragma HLS ARRAY_PARTITION variable = lanes complete dim = 0
    for (int n = 0; n < S::WORDS; ++n) {
#pragma HLS UNROLL
      for (int i = 0; i < P::w_lanes; ++i) {
#pragma HLS UNROLL
        lanes[n][i] = weights[pe][n][P::w_group(i) * C::taps + P::w_tap(i)];
      }
    }
    ap_int<C::acc_bits> field[P::fields];
#pragma HLS ARRAY_PARTITION variable = field complete dim = 0
    packed_dot<P, S::CHAIN>(lanes, acts, packed, field);
    for (int k = 0; k < P::fields; ++k) {
#pragma HLS UNROLL
      products[pe][P::field_group(k)][P::field_shift(k) + C::taps - 1] +=
          field[k] << (P::w_low + P::a_low);
    }
  }
}

/// Add the products of one cycle to the partial sums.
///
/// partial[l][o] belongs to output column (columns * column step + o - (kernel - 1)). At the start
/// of a column step the sums move down by `columns`; at the start of a row they are cleared.
template <class C>
void accumulate(const Products<C>& products, int tap_step, bool row_starts, bool step_starts,
                ap_int<C::acc_bits> (&partial)[MacShape<C>::PARALLEL][MacShape<C>::SPAN]) {
#pragma HLS INLINE
  using S = MacShape<C>;
  for (int l = 0; l < S::PARALLEL; ++l) {
#pragma HLS UNROLL
    for (int o = 0; o < S::SPAN; ++o) {
#pragma HLS UNROLL
      const int moved = o + C::columns < S::SPAN ? o + C::columns : o;
      const bool is_new = step_starts && (row_starts || moved == o);
      const ap_int<C::acc_bits> before = step_starts ? partial[l][moved] : partial[l][o];
      ap_int<C::acc_bits> arriving = 0;
      for (int t = 0; t < C::tap_steps; ++t) {
#pragma HLS UNROLL
        const int shift = o - (C::kernel - 1) + (t + 1) * C::taps - 1;
        if (t == tap_step && shift >= 0 && shift < S::SHIFTS) {
          arriving = products[l / C::groups][l % C::groups][shift];
        }
      }
      partial[l][o] = is_new ? arriving : ap_int<C::acc_bits>(before + arriving);
    }
  }
}

/// Return the partial sums that have received their last product.
template <class C>
SumWord<C::columns, MacShape<C>::PARALLEL, C::acc_bits> finished(
    const ap_int<C::acc_bits> (&partial)[MacShape<C>::PARALLEL][MacShape<C>::SPAN]) {
#pragma HLS INLINE
  using S = MacShape<C>;
  SumWord<C::columns, S::PARALLEL, C::acc_bits> word;
#pragma HLS ARRAY_PARTITION variable = word.sum complete dim = 0
  for (int i = 0; i < C::columns; ++i) {
#pragma HLS UNROLL
    for (int l = 0; l < S::PARALLEL; ++l) {
#pragma HLS UNROLL
      word.sum[i][l] = partial[l][i];
    }
  }
  return word;
}

/// Convolve: multiply window words with ROM weights, keep partial sums, send finished columns.
///
/// A window of `columns` columns touches `SPAN` output columns; the first `columns` of them are
/// finished when the column step ends, the others move down and wait for the next step. Order:
/// row -> output group -> column step -> (kernel row group -> channel group -> tap step).
/// `Pieces`: the packing plan's multiplications, one DSP each.
template <class C, class... Pieces>
void mac_array(hls::stream<WindowWord<C::kernel_rows, C::columns, C::simd, C::a_bits> >& in,
               hls::stream<SumWord<C::columns, MacShape<C>::PARALLEL, C::acc_bits> >& out,
               const WeightRom<C>& rom, int frames) {
#pragma HLS ARRAY_PARTITION variable = rom complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = rom complete dim = 3
  using S = MacShape<C>;
  WindowWord<C::kernel_rows, C::columns, C::simd, C::a_bits> x;
#pragma HLS ARRAY_PARTITION variable = x.code complete dim = 0
  ap_int<C::acc_bits> partial[S::PARALLEL][S::SPAN];
#pragma HLS ARRAY_PARTITION variable = partial complete dim = 0
  int tap_step = 0;
  for (int row = 0; row < frames * C::height; ++row) {
    for (int group = 0; group < S::GROUPS_OUT; ++group) {
      for (int column_step = 0; column_step < C::column_steps; ++column_step) {
        for (int step = 0; step < S::STEPS; ++step) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
          MIXQ_ITERATION(C);
          if (tap_step == 0) x = in.read();
          WeightWords<C> weights[C::pe];
#pragma HLS ARRAY_PARTITION variable = weights complete dim = 0
          Products<C> products;
#pragma HLS ARRAY_PARTITION variable = products complete dim = 0
          for (int pe = 0; pe < C::pe; ++pe) {
#pragma HLS UNROLL
            unpack_weights<C>(rom[pe][group * S::STEPS + step], weights[pe]);
            clear(products[pe]);
          }
          const int expand[] = {(add_piece<C, Pieces>(x, weights, products), 0)...};
          (void)expand;
          accumulate<C>(products, tap_step, column_step == 0, step == 0, partial);
          if (step == S::STEPS - 1) out.write(finished<C>(partial));
          tap_step = tap_step == C::tap_steps - 1 ? 0 : tap_step + 1;
        }
      }
    }
  }
}

}  // namespace mixq

#endif
