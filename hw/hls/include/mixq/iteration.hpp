// SPDX-License-Identifier: Apache-2.0
//
// MIXQ_ITERATION(Config) marks one iteration of a process. It is empty, except in a C simulation
// that counts (MIXQ_COUNT), whose figures the cycle model must reproduce.
#ifndef MIXQ_ITERATION_HPP
#define MIXQ_ITERATION_HPP

#ifdef MIXQ_COUNT
#include "csim/count.hpp"
#define MIXQ_ITERATION(Config) ::mixq::csim::iteration_counter<Config>().tick()
#else
#define MIXQ_ITERATION(Config)
#endif

#endif
