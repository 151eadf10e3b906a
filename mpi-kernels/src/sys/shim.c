/* Constants of MPI that are macros with casts, which bindgen leaves out. Each library has its own
 * values for them, so they are asked of the library's header here. */
#include <mpi.h>

void *mpi_kernels_in_place(void) { return MPI_IN_PLACE; }
