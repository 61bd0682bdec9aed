// SPDX-License-Identifier: Apache-2.0
//
// One DSP multiplies several weights with several activations (hw/packing/plan.py has the theory).
//
// A piece `P` describes one multiplication: operand slices (`w_low`, `w_bits`, `w_signed`, `a_low`,
// `a_bits`), lanes (`w_offset(i)`, `a_offset(j)`, ...), and the fields of the product in ascending
// order (`field_offset(k)`, `field_bits(k)`, `field_lo(k)`: least value after one multiplication;
// `product_field(i * a_lanes + j)`: field of the product of lanes i and j).
#ifndef MIXQ_PACKED_MAC_HPP
#define MIXQ_PACKED_MAC_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Return the bits of weight `w` that piece P multiplies; only the top piece keeps the sign.
template <class P, int BITS>
int weight_slice(const ap_int<BITS>& w) {
#pragma HLS INLINE
  const int rest = w.to_int() >> P::w_low;
  return P::w_signed ? rest : rest & ((1 << P::w_bits) - 1);
}

/// Return the bits of activation `a` that piece P multiplies.
template <class P, int BITS>
int act_slice(const ap_uint<BITS>& a) {
#pragma HLS INLINE
  return (a.to_int() >> P::a_low) & ((1 << P::a_bits) - 1);
}

/// Pack one weight per lane into a word of the weight port.
template <class P, int BITS>
ap_int<P::w_port> pack_weights(const ap_int<BITS> (&w)[P::w_lanes]) {
#pragma HLS INLINE
  int word = 0;
  for (int i = 0; i < P::w_lanes; ++i) {
#pragma HLS UNROLL
    word += weight_slice<P>(w[i]) * (1 << P::w_offset(i));
  }
  return word;
}

/// Pack one activation per lane into a word of the activation port.
template <class P, int BITS>
ap_int<P::a_port> pack_acts(const ap_uint<BITS> (&a)[P::a_lanes]) {
#pragma HLS INLINE
  int word = 0;
  for (int j = 0; j < P::a_lanes; ++j) {
#pragma HLS UNROLL
    word += act_slice<P>(a[j]) << P::a_offset(j);
  }
  return word;
}

/// Return the constant that makes every field of a sum of `chain` products non-negative.
template <class P>
constexpr long long chain_bias(int chain) {
  long long bias = 0;
  for (int k = 0; k < P::fields; ++k) {
    bias -= (chain * P::field_lo(k)) * (1LL << P::field_offset(k));
  }
  return bias;
}

/// Return sum + w * a, multiplied in one DSP.
template <class P>
ap_int<P::p_bits> multiply_add(const ap_int<P::p_bits>& sum, const ap_int<P::w_port>& w,
                               const ap_int<P::a_port>& a) {
#pragma HLS INLINE
  const ap_int<P::w_port + P::a_port> product = w * a;
#pragma HLS BIND_OP variable = product op = mul impl = dsp
  return sum + product;
}

/// Add the low `known_bits` bits of every field of one product, computed beside the DSP.
template <class P, int W_BITS, int A_BITS>
void add_known(const ap_int<W_BITS> (&w)[P::w_lanes], const ap_uint<A_BITS> (&a)[P::a_lanes],
               int (&known)[P::fields]) {
#pragma HLS INLINE
  constexpr int MASK = (1 << P::known_bits) - 1;
  for (int i = 0; i < P::w_lanes; ++i) {
#pragma HLS UNROLL
    for (int j = 0; j < P::a_lanes; ++j) {
#pragma HLS UNROLL
      known[P::product_field(i * P::a_lanes + j)] +=
          (weight_slice<P>(w[i]) & MASK) * (act_slice<P>(a[j]) & MASK);
    }
  }
}

/// Cut the sum `p` of `chain` products and their bias into fields: field[k] += v_k - chain * lo_k.
///
/// From low to high; the known low bits of the field above tell what it adds to the slice. Without
/// known bits the fields do not overlap and decoding is wiring.
template <class P, int BITS>
void decode(const ap_int<P::p_bits>& p, const int (&known)[P::fields], int chain,
            ap_int<BITS> (&field)[P::fields]) {
#pragma HLS INLINE
  constexpr int MASK = (1 << P::known_bits) - 1;
  unsigned long long rest = ap_uint<P::p_bits>(p).to_uint64() >> P::field_offset(0);
  for (int k = 0; k < P::fields; ++k) {
#pragma HLS UNROLL
    const bool top = k == P::fields - 1;
    const int delta = top ? 0 : P::field_offset(k + 1) - P::field_offset(k);
    const int above = top ? 0 : (known[k + 1] - chain * P::field_lo(k + 1)) & MASK;
    const unsigned long long slice = (rest - (above << delta)) & ((1ULL << P::field_bits(k)) - 1);
    field[k] += ap_int<BITS>(slice);
    rest = (P::known_bits > 0 ? rest - slice : rest) >> delta;
  }
}

/// Add the fields of sum over n of w[n] * a[n] to `field`, all multiplied in this cycle.
///
/// `CHAIN` products at a time are summed inside the DSPs before they are decoded. `packed` holds
/// the activation words of `a`, shared by all arrays that multiply them.
template <class P, int CHAIN, int WORDS, int W_BITS, int A_BITS, int BITS>
void packed_dot(const ap_int<W_BITS> (&w)[WORDS][P::w_lanes],
                const ap_uint<A_BITS> (&a)[WORDS][P::a_lanes],
                const ap_int<P::a_port> (&packed)[WORDS], ap_int<BITS> (&field)[P::fields]) {
#pragma HLS INLINE
  constexpr int LINKS = ceil_div(WORDS, CHAIN);
  for (int k = 0; k < P::fields; ++k) {
#pragma HLS UNROLL
    field[k] = LINKS * CHAIN * P::field_lo(k);
  }
  for (int link = 0; link < LINKS; ++link) {
#pragma HLS UNROLL
    ap_int<P::p_bits> sum = chain_bias<P>(CHAIN);
    int known[P::fields] = {};
#pragma HLS ARRAY_PARTITION variable = known complete dim = 0
    for (int part = 0; part < CHAIN; ++part) {
#pragma HLS UNROLL
      const int n = link * CHAIN + part;
      if (n < WORDS) {
        sum = multiply_add<P>(sum, pack_weights<P>(w[n]), packed[n]);
        if (P::known_bits > 0) add_known<P>(w[n], a[n], known);
      }
    }
    decode<P>(sum, known, CHAIN, field);
  }
}

}  // namespace mixq

#endif
