/* farewell.h - leaving a hydra job in good order without MPI_Finalize. */
#ifndef CORDEE_TRANSPORT_FAREWELL_H
#define CORDEE_TRANSPORT_FAREWELL_H

/* Tells hydra that this process is done with MPI, as MPI_Finalize would, over the
 * process-manager socket (PMI-1 wire protocol, PMI_FD). Without it hydra takes the
 * exit of the first rank for a crash, kills the others on that proxy and ends with
 * a code of 9. Call it after the last MPI call, just before _exit. Waits at most
 * wait_ms for the answer. Does nothing under other process managers. */
void transport_farewell(unsigned wait_ms);

#endif
