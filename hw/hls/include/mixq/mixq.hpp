// SPDX-License-Identifier: Apache-2.0
//
// Everything that a generated accelerator includes.
#ifndef MIXQ_MIXQ_HPP
#define MIXQ_MIXQ_HPP

#include "mixq/mac_array.hpp"
#include "mixq/pool.hpp"
#include "mixq/rearrange.hpp"
#include "mixq/ports.hpp"
#include "mixq/requantise.hpp"
#include "mixq/window.hpp"

#endif
