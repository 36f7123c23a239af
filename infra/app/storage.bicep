// One account: the deployed package, the host's own locks, and the tables of the proxy.
param name string
param location string
param tags object
param deploymentContainerName string
param isPrivate bool

@description('Comma-separated; with isPrivate, the only public addresses let in.')
param allowedIpAddresses string

// The tables of the proxy are declared here, so that no start-up has to create them.
var tableNames = ['events', 'deployments', 'quotas', 'usage']
var addresses = (empty(allowedIpAddresses) ? [] : split(replace(allowedIpAddresses, ' ', ''), ','))
var ipRules = [for address in addresses: { value: address, action: 'Allow' }]
var isClosed = (isPrivate && empty(allowedIpAddresses))

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    dnsEndpointType: 'Standard'
    publicNetworkAccess: (isClosed ? 'Disabled' : 'Enabled')
    networkAcls: {
      defaultAction: (isPrivate ? 'Deny' : 'Allow')
      bypass: 'AzureServices'
      ipRules: (isPrivate ? ipRules : [])
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource deploymentContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: deploymentContainerName
  properties: { publicAccess: 'None' }
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-01-01' = [for table in tableNames: {
  parent: tableService
  name: table
}]

output name string = account.name
output tableEndpoint string = account.properties.primaryEndpoints.table
