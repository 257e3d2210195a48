mod grids;
