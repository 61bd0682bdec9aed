// SPDX-License-Identifier: Apache-2.0
//
// One DSP multiplies several weights with several activations (hw/packing/plan.py has the theory).
//
// `C` holds what the words of a plan share: `wide_bits`, `narrow_bits` and `p_bits` of the DSP,
// `known_bits`, `folded`, `canary`, `fields` of the richest word, `tally_bits` (see track). A word
// `W` is one multiplication:
//   `w_signed`, `w_add`, `w_offset(i)`   weight slices and where the `w_lanes` lanes lie
//   `a_low`, `a_bits`                    which bits of an activation are its slice
//   `a_sub`, `a_offset(j)`               and where the `a_lanes` lanes lie
//   `least`, `centre`                    z of plan.py = least + centre w, unless folded
//   `field_offset(k)`, `field_bits(k)`   slices of the accumulator, `fields` of them, from low up
//   `product_field(i * a_lanes + j)`     field of the product of lanes i and j
#ifndef MIXQ_PACKED_MAC_HPP
#define MIXQ_PACKED_MAC_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Return the weight slice that `bits` of the weight memory stand for.
template <class W, int BITS>
int weight_slice(const ap_uint<BITS>& bits) {
#pragma HLS INLINE
  return W::w_signed ? ap_int<BITS>(bits).to_int() : bits.to_int();
}

/// Return the slice of activation `a` that word W multiplies.
template <class W, int BITS>
int act_slice(const ap_uint<BITS>& a) {
#pragma HLS INLINE
  return (a.to_int() >> W::a_low) & ((1 << W::a_bits) - 1);
}

/// Pack one weight slice per lane into the word that the port carries.
template <class W, int LANES, int BITS>
int pack_weights(const ap_uint<BITS> (&w)[LANES]) {
#pragma HLS INLINE
  int word = W::w_add;
  for (int i = 0; i < W::w_lanes; ++i) {
#pragma HLS UNROLL
    word += weight_slice<W>(w[i]) * (1 << W::w_offset(i));
  }
  return word;
}

/// Pack one activation per lane into the word that the port carries.
template <class W, int LANES, int BITS>
int pack_acts(const ap_uint<BITS> (&a)[LANES]) {
#pragma HLS INLINE
  int word = -W::a_sub;
  for (int j = 0; j < W::a_lanes; ++j) {
#pragma HLS UNROLL
    word += act_slice<W>(a[j]) << W::a_offset(j);
  }
  return word;
}

/// Return sum + wide * narrow, multiplied in one DSP.
template <class C>
ap_int<C::p_bits> multiply_add(const ap_int<C::p_bits>& sum, const ap_int<C::wide_bits>& wide,
                               const ap_int<C::narrow_bits>& narrow) {
#pragma HLS INLINE
  const ap_int<C::wide_bits + C::narrow_bits> product = wide * narrow;
#pragma HLS BIND_OP variable = product op = mul impl = dsp
  return sum + product;
}

/// Add, modulo 2^known_bits, what one product adds to every field; computed beside the DSP.
template <class C, class W, int W_LANES, int BITS, int A_LANES, int A_BITS>
void add_known(const ap_uint<BITS> (&w)[W_LANES], const ap_uint<A_BITS> (&a)[A_LANES],
               int (&known)[C::fields]) {
#pragma HLS INLINE
  constexpr int MASK = (1 << C::known_bits) - 1;
  constexpr int A_MAX = (1 << W::a_bits) - 1;
  for (int i = 0; i < W::w_lanes; ++i) {
#pragma HLS UNROLL
    const int slice = weight_slice<W>(w[i]);
    const int least = !C::folded ? W::least + W::centre * slice
                      : slice < 0  ? slice * A_MAX
                                   : 0;
    for (int j = 0; j < W::a_lanes; ++j) {
#pragma HLS UNROLL
      known[W::product_field(i * W::a_lanes + j)] +=
          (slice & MASK) * (act_slice<W>(a[j]) & MASK) - (least & MASK);
    }
  }
}

/// Update what logic beside the DSP remembers of an accumulator that went from `before` to `after`.
///
/// tally[k] of field k > 0 is the sum of its known bits or, with canaries, the carries out of the
/// field below: by how much its low bits moved more than they should have.
template <class C, class W>
void track(const ap_uint<C::p_bits>& before, const ap_uint<C::p_bits>& after,
           const int (&known)[C::fields], ap_uint<C::tally_bits> (&tally)[C::fields]) {
#pragma HLS INLINE
  constexpr int MASK = (1 << C::known_bits) - 1;
  for (int k = 1; k < W::fields; ++k) {
#pragma HLS UNROLL
    const int low = (before >> W::field_offset(k)).to_int() & MASK;
    const int high = (after >> W::field_offset(k)).to_int() & MASK;
    tally[k] += C::canary ? (high - low - known[k]) & MASK : known[k] & MASK;
  }
}

/// Cut an accumulator into fields: field[k] = u_k of plan.py.
///
/// From low to high. The known low bits of the field above tell what it adds to a slice. With
/// canaries a slice is the field modulo 2^distance and the carries tell the rest; those into the
/// top field may have run over its end, so that what is left of it counts modulo its width.
template <class C, class W, int BITS>
void decode(const ap_uint<C::p_bits>& p, const ap_uint<C::tally_bits> (&tally)[C::fields],
            ap_int<BITS> (&field)[W::fields]) {
#pragma HLS INLINE
  constexpr int MASK = (1 << C::known_bits) - 1;
  unsigned long long rest = p.to_uint64() >> W::field_offset(0);
  for (int k = 0; k < W::fields; ++k) {
#pragma HLS UNROLL
    const bool top = k == W::fields - 1;
    const int delta = top ? 0 : W::field_offset(k + 1) - W::field_offset(k);
    const unsigned long long above = top ? 0 : tally[k + 1].to_uint64();
    const unsigned long long below = k == 0 ? 0 : tally[k].to_uint64();
    const int bits = C::canary && !top ? delta : W::field_bits(k);
    const unsigned long long mask = ~0ULL >> (64 - bits);
    if (C::canary) {
      field[k] = top ? (rest - below) & mask : (rest & mask) + (above << delta) - below;
      rest >>= delta;
    } else {
      const unsigned long long slice = (rest - ((above & MASK) << delta)) & mask;
      field[k] = slice;
      rest = (C::known_bits > 0 ? rest - slice : rest) >> delta;
    }
  }
}

}  // namespace mixq

#endif
