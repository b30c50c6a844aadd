/* Status of kernel-internal operations: the ABI's own codes. */
#pragma once
#include "core/abi.h"
