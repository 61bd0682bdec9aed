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
  static constexpr int LANES = C::kernel_rows * C::simd;  // multipliers of one PE
  static constexpr int CHANNELS = C::depthwise ? C::pe : C::simd;  // of a window word
  static constexpr int LINKS = ceil_div(LANES, C::link);  // and their accumulators
  static constexpr int STEPS = (C::kernel / C::kernel_rows) * (C::in_channels / C::simd);
  static constexpr int DEPTH = GROUPS_OUT * C::word_steps * STEPS;
  static constexpr int SPAN = C::columns + C::kernel - 1;  // output columns one window touches
  static constexpr int SLICES_PER_CHUNK = 64 / C::slice_bits;
  static constexpr int SLICE_CHUNKS = ceil_div(LANES * C::w_lanes, SLICES_PER_CHUNK);
  static constexpr int BIAS_PER_CHUNK = C::biased ? 64 / C::bias_bits : 1;
  static constexpr int CHUNKS = SLICE_CHUNKS + (C::biased ? ceil_div(LINKS, BIAS_PER_CHUNK) : 0);
};

/// What the array reads in one cycle.
template <class C>
using MacWindow = WindowWord<C::kernel_rows, C::columns, MacShape<C>::CHANNELS, C::a_bits>;

/// What one PE multiplies in one cycle: weight slices [kernel row, channel][weight lane], then the
/// bias of every link, in 64-bit chunks.
template <class C>
using RomWord = rom_word[MacShape<C>::CHUNKS];

/// ROM words of all PEs: [pe][out group, word step, kernel row group, channel group].
template <class C>
using WeightRom = rom_word[C::pe][MacShape<C>::DEPTH][MacShape<C>::CHUNKS];

/// What the partial sums of every output channel start from: [channel mod PARALLEL][out group].
template <class C>
using StartRom = long long[MacShape<C>::PARALLEL][MacShape<C>::GROUPS_OUT];

/// Partial sums, or what one cycle adds to them: [channel][output column].
template <class C>
using Partial = ap_int<C::acc_bits>[MacShape<C>::PARALLEL][MacShape<C>::SPAN];

/// What all multipliers take in one cycle: operands, and per link the addend and the known bits.
template <class C>
struct MacInputs {
  ap_int<C::wide_bits> wide[C::pe][MacShape<C>::LANES];
  ap_int<C::narrow_bits> narrow[C::pe][MacShape<C>::LANES];
  ap_int<C::p_bits> addend[C::pe][MacShape<C>::LINKS];
  int known[C::pe][MacShape<C>::LINKS][C::fields];
};

/// Accumulators of all links before and after one cycle, and what is remembered beside them.
template <class C>
struct MacSums {
  ap_uint<C::p_bits> before[C::pe][MacShape<C>::LINKS];
  ap_uint<C::p_bits> after[C::pe][MacShape<C>::LINKS];
  ap_uint<C::tally_bits> tally[C::pe][MacShape<C>::LINKS][C::fields];
};

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

/// Read the biases of the links, and set to zero what the words add to.
template <class C>
void begin_cycle(const WeightRom<C>& rom, int address, MacInputs<C>& inputs) {
#pragma HLS INLINE
  using S = MacShape<C>;
  for (int pe = 0; pe < C::pe; ++pe) {
#pragma HLS UNROLL
    for (int link = 0; link < S::LINKS; ++link) {
#pragma HLS UNROLL
      inputs.addend[pe][link] = 0;
      if (C::biased) {
        const rom_word chunk = rom[pe][address][S::SLICE_CHUNKS + link / S::BIAS_PER_CHUNK];
        inputs.addend[pe][link] =
            ap_int<C::bias_bits>(chunk >> (link % S::BIAS_PER_CHUNK * C::bias_bits));
      }
      for (int k = 0; k < C::fields; ++k) {
#pragma HLS UNROLL
        inputs.known[pe][link][k] = 0;
      }
    }
  }
}

/// Cut the weight slices of lane `n` out of a ROM word.
template <class C>
void unpack_weights(const RomWord<C>& rom, int n, ap_uint<C::slice_bits> (&w)[C::w_lanes]) {
#pragma HLS INLINE
  using S = MacShape<C>;
  for (int i = 0; i < C::w_lanes; ++i) {
#pragma HLS UNROLL
    const int e = n * C::w_lanes + i;
    w[i] = rom[e / S::SLICES_PER_CHUNK] >> (e % S::SLICES_PER_CHUNK * C::slice_bits);
  }
}

/// Put the operands of word W on the ports if it has its turn.
template <class C, class W>
void load_word(int word_step, const MacWindow<C>& x, const WeightRom<C>& rom, int address,
               MacInputs<C>& inputs) {
#pragma HLS INLINE
  using S = MacShape<C>;
  if (word_step != W::index) return;
  for (int n = 0; n < S::LANES; ++n) {
#pragma HLS UNROLL
    ap_uint<C::a_bits> acts[W::a_lanes];
#pragma HLS ARRAY_PARTITION variable = acts complete dim = 0
    int a_word = 0;
    for (int pe = 0; pe < C::pe; ++pe) {
#pragma HLS UNROLL
      if (C::depthwise || pe == 0) {  // all PEs of a dense array take the same activations
        for (int j = 0; j < W::a_lanes; ++j) {
#pragma HLS UNROLL
          acts[j] = x.code[n / C::simd][W::a_column(j)][C::depthwise ? pe : n % C::simd];
        }
        a_word = pack_acts<W>(acts);
      }
      ap_uint<C::slice_bits> w[C::w_lanes];
#pragma HLS ARRAY_PARTITION variable = w complete dim = 0
      unpack_weights<C>(rom[pe][address], n, w);
      const int w_word = pack_weights<W>(w);
      inputs.wide[pe][n] = W::w_wide ? w_word : a_word;
      inputs.narrow[pe][n] = W::w_wide ? a_word : w_word;
      inputs.addend[pe][n / C::link] += W::bias - (long long)W::w_add * a_word;
      if (C::known_bits > 0) add_known<C, W>(w, acts, inputs.known[pe][n / C::link]);
    }
  }
}

/// Multiply, and add the products of every link to its accumulator; a `fresh` one starts from zero.
template <class C>
void multiply(const MacInputs<C>& inputs, bool fresh, MacSums<C>& sums) {
#pragma HLS INLINE
  using S = MacShape<C>;
  for (int pe = 0; pe < C::pe; ++pe) {
#pragma HLS UNROLL
    for (int link = 0; link < S::LINKS; ++link) {
#pragma HLS UNROLL
      ap_int<C::p_bits> sum = inputs.addend[pe][link];
      for (int part = 0; part < C::link; ++part) {
#pragma HLS UNROLL
        const int n = link * C::link + part;
        if (n < S::LANES) sum = multiply_add<C>(sum, inputs.wide[pe][n], inputs.narrow[pe][n]);
      }
      sums.before[pe][link] = fresh ? ap_uint<C::p_bits>(0) : sums.after[pe][link];
      sums.after[pe][link] = sums.before[pe][link] + ap_uint<C::p_bits>(sum);
      for (int k = 0; k < C::fields; ++k) {
#pragma HLS UNROLL
        if (fresh) sums.tally[pe][link][k] = 0;
      }
    }
  }
}

/// Follow the accumulators if word W has its turn; if they are `due`, decode them to `arriving`.
template <class C, class W>
void finish_word(int word_step, const MacInputs<C>& inputs, bool due, MacSums<C>& sums,
                 Partial<C>& arriving) {
#pragma HLS INLINE
  using S = MacShape<C>;
  if (word_step != W::index) return;
  for (int pe = 0; pe < C::pe; ++pe) {
#pragma HLS UNROLL
    for (int link = 0; link < S::LINKS; ++link) {
#pragma HLS UNROLL
      if (C::known_bits > 0) {
        track<C, W>(sums.before[pe][link], sums.after[pe][link], inputs.known[pe][link],
                    sums.tally[pe][link]);
      }
      if (!due) continue;
      ap_int<C::acc_bits> field[W::fields];
#pragma HLS ARRAY_PARTITION variable = field complete dim = 0
      decode<C, W>(sums.after[pe][link], sums.tally[pe][link], field);
      for (int k = 0; k < W::fields; ++k) {
#pragma HLS UNROLL
        arriving[pe * C::groups + W::field_group(k)][W::field_shift(k) + C::kernel - 1] +=
            field[k] << W::scale;
      }
    }
  }
}

/// Add what arrives to the partial sums.
///
/// partial[l][o] belongs to output column (columns * column step + o - (kernel - 1)). At the start
/// of a column step the sums move down by `columns`; those that are new start from a constant.
template <class C>
void accumulate(const Partial<C>& arriving, const StartRom<C>& start, int group, bool row_starts,
                bool step_starts, Partial<C>& partial) {
#pragma HLS INLINE
  using S = MacShape<C>;
  for (int l = 0; l < S::PARALLEL; ++l) {
#pragma HLS UNROLL
    for (int o = 0; o < S::SPAN; ++o) {
#pragma HLS UNROLL
      const int moved = o + C::columns < S::SPAN ? o + C::columns : o;
      const bool is_new = row_starts || moved == o;
      const ap_int<C::acc_bits> first = is_new ? ap_int<C::acc_bits>(start[l][group])
                                               : partial[l][moved];
      partial[l][o] = (step_starts ? first : partial[l][o]) + arriving[l][o];
    }
  }
}

/// Return the partial sums that have received their last product.
template <class C>
SumWord<C::columns, MacShape<C>::PARALLEL, C::acc_bits> finished(const Partial<C>& partial) {
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
/// row -> output group -> column step -> word step -> (kernel row group -> channel group).
/// `Words`: the packing plan's multiplications, one of which all DSPs run in a word step.
template <class C, class... Words>
void mac_array(hls::stream<MacWindow<C> >& in,
               hls::stream<SumWord<C::columns, MacShape<C>::PARALLEL, C::acc_bits> >& out,
               const WeightRom<C>& rom, const StartRom<C>& start, int frames) {
#pragma HLS ARRAY_PARTITION variable = rom complete dim = 1
#pragma HLS ARRAY_RESHAPE variable = rom complete dim = 3
#pragma HLS ARRAY_PARTITION variable = start complete dim = 1
  using S = MacShape<C>;
  MacSums<C> sums;
#pragma HLS ARRAY_PARTITION variable = sums.before complete dim = 0
#pragma HLS ARRAY_PARTITION variable = sums.after complete dim = 0
#pragma HLS ARRAY_PARTITION variable = sums.tally complete dim = 0
  Partial<C> partial;
#pragma HLS ARRAY_PARTITION variable = partial complete dim = 0
  int summed = 0;  // cycles since the accumulators were decoded
  for (int row = 0; row < frames * C::height; ++row) {
    for (int group = 0; group < S::GROUPS_OUT; ++group) {
      for (int column_step = 0; column_step < C::column_steps; ++column_step) {
        for (int word_step = 0; word_step < C::word_steps; ++word_step) {
          for (int step = 0; step < S::STEPS; ++step) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
            MIXQ_ITERATION(C);
            const MacWindow<C> x = in.read();
            MacInputs<C> inputs;
#pragma HLS ARRAY_PARTITION variable = inputs.wide complete dim = 0
#pragma HLS ARRAY_PARTITION variable = inputs.narrow complete dim = 0
#pragma HLS ARRAY_PARTITION variable = inputs.addend complete dim = 0
#pragma HLS ARRAY_PARTITION variable = inputs.known complete dim = 0
            Partial<C> arriving;
#pragma HLS ARRAY_PARTITION variable = arriving complete dim = 0
            clear(arriving);
            const int address = (group * C::word_steps + word_step) * S::STEPS + step;
            const bool last = step == S::STEPS - 1;
            const bool due = last || summed == C::decode_cycles - 1;
            begin_cycle<C>(rom, address, inputs);
            const int load[] = {(load_word<C, Words>(word_step, x, rom, address, inputs), 0)...};
            multiply<C>(inputs, summed == 0, sums);
            const int finish[] = {
                (finish_word<C, Words>(word_step, inputs, due, sums, arriving), 0)...};
            (void)load, (void)finish;
            summed = due ? 0 : summed + 1;
            accumulate<C>(arriving, start, group, column_step == 0, word_step + step == 0, partial);
            if (last && word_step == C::word_steps - 1) out.write(finished<C>(partial));
          }
        }
      }
    }
  }
}

}  // namespace mixq

#endif
